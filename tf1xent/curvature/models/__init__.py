"""Models from their files alone: graph, checkpoint, loss and feeds."""
