"""Passes over data on several workers: a session on each, and sums on the client."""
