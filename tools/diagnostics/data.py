"""Digits in the shapes that the models take."""

import functools
from typing import Callable, NamedTuple, Tuple

import numpy as np
from sklearn.datasets import load_digits

CLASSES = 10
SIDE = 8
# The shape of one example.
SHAPES = {"MLP": (SIDE * SIDE,), "CNN": (SIDE, SIDE, 1), "tagger": (SIDE, SIDE)}


class Batch(NamedTuple):
    """What one step reads; the tagger's labels and weights are `[rows, 8]`, else `[rows]`."""

    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


Change = Callable[[int, Batch], Batch]


@functools.lru_cache(maxsize=None)
def _digits() -> Tuple[np.ndarray, np.ndarray]:
    found = load_digits()
    return (found.data / 16).astype(np.float32), found.target.astype(np.int32)


def draw(model: str, rng: np.random.RandomState, size: int) -> Batch:
    """Returns one batch; the tagger labels each line of an image, up to some length."""
    images, digits = _digits()
    chosen = rng.randint(len(digits), size=size)
    features = images[chosen].reshape((size,) + SHAPES[model])
    labels = digits[chosen]
    if model != "tagger":
        return Batch(features, labels, np.ones([size], np.float32))
    lengths = rng.randint(SIDE // 2, SIDE + 1, size=[size, 1])
    weights = (np.arange(SIDE) < lengths).astype(np.float32)
    labels = np.repeat(labels[:, np.newaxis], SIDE, 1) * weights.astype(np.int32)
    return Batch(features, labels, weights)
