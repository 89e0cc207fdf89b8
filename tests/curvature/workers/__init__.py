"""Tests of tf1xent.curvature.operators."""
