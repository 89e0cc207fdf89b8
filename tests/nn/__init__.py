"""Tests of tf1xent.nn."""
