"""Tests of tf1xent.graphs."""
