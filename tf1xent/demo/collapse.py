"""What is left of loss and gradient when the prediction grows ever more confident.

One row of ten logits: t for the true class, 0 for the others. With s = 9 exp(-t), the loss is
log1p(s) and its derivative with respect to the true class's logit is -s / (1 + s): small, but never
0. A network that fits its data goes on learning only as long as these are computed.
"""

import numpy as np
import tensorflow.compat.v1 as tf

NUM_CLASSES = 10
TABLE_CONFIDENCES = (5, 10, 17, 20, 30, 50)
CURVE_CONFIDENCES = np.arange(0, 60.5, 0.5)


def exact(confidences):
    """Returns (losses, gradients at the true class) from the closed forms, in float64."""
    others = (NUM_CLASSES - 1) * np.exp(-np.asarray(confidences, np.float64))
    return np.log1p(others), -others / (1 + others)


def computed(confidences):
    """Returns the same from tf.nn, as it is bound at the call, in float32."""
    rows = np.zeros([len(confidences), NUM_CLASSES], np.float32)
    rows[:, 0] = confidences
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(rows)
        labels = tf.zeros([len(confidences)], tf.int32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        (gradients,) = tf.gradients(losses, logits)
        losses, gradients = session.run([losses, gradients])
    return losses, gradients[:, 0]


def relative_errors(values, exact_values):
    """Returns abs(value - exact) / abs(exact) for each value, computed in float64."""
    values = np.asarray(values, np.float64)
    return np.abs(values - exact_values) / np.abs(exact_values)


def table(stock, patched):
    """Returns the lines of the collapse table from what `computed` gave, stock and patched."""
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
