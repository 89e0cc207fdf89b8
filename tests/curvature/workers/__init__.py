"""Tests of tf1xent.curvature.workers."""
