"""Tests of tf1xent.diagnostics.causes."""
