"""Tests of tf1xent.patching."""
