"""A linear layer of seven classes."""

import numpy as np

DIM, NUM_CLASSES = 3, 7
RANDOM = np.random.RandomState(1)
INPUTS = RANDOM.normal(size=(2, 3, DIM))
WEIGHTS = 2 * RANDOM.normal(size=(DIM, NUM_CLASSES))
BIASES = RANDOM.normal(size=NUM_CLASSES)
