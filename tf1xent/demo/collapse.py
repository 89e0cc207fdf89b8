"""Loss and gradient of ever more confident predictions.

One row of ten logits: t for the true class, 0 for the others. With s = 9 exp(-t), the loss is
log1p(s) and its derivative in the true class's logit is -s / (1 + s): small, but never 0. Once a
program computes 0, a network that fits its data stops learning.
"""

from typing import List, Sequence, Tuple, Union

import numpy as np
import tensorflow.compat.v1 as tf

Confidences = Union[Sequence[float], np.ndarray]
# (losses, gradients at the true class)
Curves = Tuple[np.ndarray, np.ndarray]

NUM_CLASSES = 10
TABLE_CONFIDENCES = (5, 10, 17, 20, 30, 50)
CURVE_CONFIDENCES = np.arange(0, 60.5, 0.5)


def exact(confidences: Confidences) -> Curves:
    """Returns (losses, gradients at the true class) from the closed forms, in float64."""
    others = (NUM_CLASSES - 1) * np.exp(-np.asarray(confidences, np.float64))
    return np.log1p(others), -others / (1 + others)


def computed(confidences: Confidences) -> Curves:
    """Returns the same in float32, from the function that tf.nn holds at the call."""
    rows = np.zeros([len(confidences), NUM_CLASSES], np.float32)
    rows[:, 0] = confidences
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(rows)
        labels = tf.zeros([len(confidences)], tf.int32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        (gradients,) = tf.gradients(losses, logits)
        losses, gradients = session.run([losses, gradients])
    return losses, gradients[:, 0]


def relative_errors(values: np.ndarray, exact_values: np.ndarray) -> np.ndarray:
    """Returns abs(value - exact) / abs(exact) for each value, computed in float64."""
    values = np.asarray(values, np.float64)
    return np.abs(values - exact_values) / np.abs(exact_values)


def table(stock: Curves, patched: Curves) -> List[str]:
    """Returns the lines of a table of what `computed` returned, unpatched and patched."""
    losses, gradients = exact(TABLE_CONFIDENCES)
    head = "{:>4}  {:>11}{:>13}{:>13}   {:>12}{:>13}{:>13}"
    row = "{:>4}  {:>11.4e}{:>13.4e}{:>13.4e}   {:>12.4e}{:>13.4e}{:>13.4e}"
    lines = [
        head.format("", "loss, nats", "", "", "gradient", "", "").rstrip(),
        head.format("t", "TF", "tf1xent", "exact", "TF", "tf1xent", "exact"),
    ]
    for index, confidence in enumerate(TABLE_CONFIDENCES):
        columns = [side[which][index] for which in (0, 1) for side in (stock, patched)]
        columns[2:2] = [losses[index]]
        lines.append(row.format(confidence, *columns, gradients[index]))
    return lines
