"""What a graph trains: its loss, variables, updates and data."""
