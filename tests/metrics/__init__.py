"""Tests of tf1xent.metrics."""
