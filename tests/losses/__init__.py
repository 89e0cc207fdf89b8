"""Tests of tf1xent.losses."""
