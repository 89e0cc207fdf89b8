"""Tests of `tf1xent doctor`."""
