"""Tests of tf1xent.cli."""
