"""Passes over data on several workers: a session on each, sums on the client; and how one starts."""
