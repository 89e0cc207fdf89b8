"""Tests of tf1xent.curvature.products."""
