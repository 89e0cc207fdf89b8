"""What ``tf1xent demo`` runs: a training script without tf1xent, and the runner that patches it."""
