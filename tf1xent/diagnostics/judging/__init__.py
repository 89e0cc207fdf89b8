"""What a step that has run again says: what is wrong with it, and where it begins."""
