"""Tests of what `import tf1xent` does, and when."""
