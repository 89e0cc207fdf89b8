"""Tests of tf1xent.diagnostics.reports."""
