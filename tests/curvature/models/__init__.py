"""Tests of tf1xent.curvature.models."""
