"""The rows that the programs train on: scikit-learn's iris flowers and digits, in float64."""

import numpy as np
from sklearn.datasets import load_digits, load_iris

NUM_CLASSES = 3


def iris():
    """Return six flowers, two of each kind: features [6, 4] and labels [6]."""
    flowers = load_iris()
    rows = [0, 60, 120, 20, 80, 140]
    features = (flowers.data - flowers.data.mean(axis=0)) / flowers.data.std(axis=0)
    return features[rows].round(3), flowers.target[rows].astype(np.int64)


def smoothed_iris():
    """Return six flowers with one-hot labels that are smoothed by a tenth."""
    features, labels = iris()
    return features, np.eye(NUM_CLASSES)[labels] * 0.9 + 0.1 / NUM_CLASSES


def digit_strokes():
    """Return six digits as sequences of pixel rows, for a tagger.

    Features [6, 5, 8], the tag of each pixel row [6, 5] (how much of it is ink: little, some,
    much) and how many pixel rows count [6].
    """
    features = load_digits().images[:6, 1:6] / 16
    tags = np.digitize(features.sum(axis=-1), [1.5, 2.5]).astype(np.int64)
    return features, tags, np.array([5, 4, 5, 2, 3, 5], np.int32)
