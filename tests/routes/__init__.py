"""Ordinary TensorFlow programs, which know nothing of tf1xent, and what runs them patched."""
