"""Tests of tf1xent; a package, so that its own modules are not mistaken for others."""
