"""Tests of tf1xent.demo."""
