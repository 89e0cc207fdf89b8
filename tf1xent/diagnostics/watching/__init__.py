"""Watches a training while it runs, and keeps what it takes to run its last steps again."""
