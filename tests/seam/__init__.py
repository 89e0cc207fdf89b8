"""Tests of tf1xent._tf, the seam."""
