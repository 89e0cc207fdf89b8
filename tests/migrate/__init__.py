"""Source in, source and findings out: tf1xent.migrate."""
