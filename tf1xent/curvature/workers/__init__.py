"""Passes over data on several workers: sessions, sums on the client; how a worker starts."""
