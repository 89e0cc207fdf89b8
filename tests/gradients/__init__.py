"""Tests of tf1xent.gradients."""
