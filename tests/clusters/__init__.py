"""Losses and graphs that are spread over the tasks of a cluster, in real processes."""
