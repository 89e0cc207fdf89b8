"""Tests of tf1xent.curvature.estimates."""
