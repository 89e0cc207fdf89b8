"""Workers of a curvature operator: processes that run its batches, and how to start them."""
