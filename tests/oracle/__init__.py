"""What the library is checked against; nothing here imports it."""
