"""What ``tf1xent demo`` runs: a training script that knows nothing of tf1xent, and its runner."""
