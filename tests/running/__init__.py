"""Tests of `tf1xent run`: programs as Python itself runs them, and patched."""
