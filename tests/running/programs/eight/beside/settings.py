"""A module beside the script."""

STEPS = 12
NUM_CLASSES = 3
