"""Tests of tf1xent.kernels."""
