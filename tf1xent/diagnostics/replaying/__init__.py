"""Runs a step again, with every tensor taken down or as the program itself does."""
