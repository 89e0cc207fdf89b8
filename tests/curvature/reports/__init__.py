"""Tests of tf1xent.curvature.reports."""
