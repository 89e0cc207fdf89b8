"""Products over data, as SciPy operators; one operator a file."""
