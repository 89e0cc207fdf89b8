"""Small networks and losses, twice: as graphs of TensorFlow, and as jets of the oracle.

`CASES` are losses with options, by the library's names; `true_loss` is the oracle's side of them.
"""

import numpy as np
import tensorflow.compat.v1 as tf

import tf1xent
from tests.oracle import curvature_reference as reference

RANDOM = np.random.RandomState(11)
ROWS, INPUTS, HIDDEN, CLASSES = 6, 3, 4, 4
FEATURES = RANDOM.normal(size=(ROWS, INPUTS))
TOKENS = RANDOM.randint(6, size=(ROWS, 3))
LABELS = np.array([0, 3, 1, 1, 2, 0])
WEIGHTS = np.array([0.5, 0.0, 2.0, 1.0, 1.5, 3.0])
MASK = np.array([1, 1, 0, 1, 1, 1])
CLASS_WEIGHTS = np.array([0.25, 1.0, 2.0, 1.5])
SOFT_LABELS = RANDOM.dirichlet(np.ones(CLASSES), size=ROWS)

MLP = [(INPUTS, HIDDEN), (HIDDEN,), (HIDDEN, CLASSES), (CLASSES,)]
LINEAR = [(INPUTS, CLASSES), (CLASSES,)]
EMBEDDING = [(6, HIDDEN), (HIDDEN, CLASSES), (CLASSES,)]


def arrays(shapes, seed=0):
    """Values of variables, or a vector of their shapes."""
    random = np.random.RandomState(seed)
    return [random.normal(size=shape) for shape in shapes]


def flat(tensors):
    return np.concatenate([np.ravel(tensor) for tensor in tensors])


def split(vector, shapes):
    """A flat vector as arrays of the shapes."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(vector, ends), shapes)]


# --- The same networks as in the oracle -------------------------------------------------------


def variables(values, dtype=tf.float64, **options):
    """A variable for each of the values."""
    return [tf.Variable(value, dtype=dtype, **options) for value in values]


def mlp(features, w1, b1, w2, b2):
    return tf.matmul(tf.tanh(tf.matmul(features, w1) + b1), w2) + b2


def linear(features, w, b):
    return tf.matmul(features, w) + b


def embedding(tokens, table, w, b):
    rows = tf.nn.embedding_lookup(table, tokens, partition_strategy="div")
    return tf.matmul(tf.tanh(tf.reduce_sum(rows, axis=1)), w) + b


# --- Losses -----------------------------------------------------------------------------------

# By name: labels, and options of tf1xent.losses.
CASES = {
    "sparse": (LABELS, {}),
    "ignored, masked and weighted": (LABELS, dict(ignore_label=3, mask=MASK, weights=WEIGHTS)),
    "class weights and smoothing": (
        LABELS,
        dict(class_weights=CLASS_WEIGHTS, label_smoothing=0.2, weights=WEIGHTS),
    ),
    "z-loss and temperature": (LABELS, dict(z_loss=0.1, temperature=1.5, mask=MASK)),
    "focal": (LABELS, dict(focal_gamma=2.0, ignore_label=1)),
    "all": (
        LABELS,
        dict(
            ignore_label=1,
            mask=MASK,
            weights=WEIGHTS,
            class_weights=CLASS_WEIGHTS,
            label_smoothing=0.1,
            z_loss=0.05,
            focal_gamma=1.5,
            temperature=0.8,
        ),
    ),
    "soft labels": (SOFT_LABELS, dict(weights=WEIGHTS, label_smoothing=0.1, z_loss=0.02)),
}
# Not convex in the logits.
FOCAL = ["focal", "all"]
# All curvature in the logits is that of log sum exp, so that GGN and Fisher are the same.
LIKELIHOODS = ["sparse", "ignored, masked and weighted"]


def loss_of(logits, case, reduction=tf1xent.losses.Reduction.SUM_BY_NONZERO_WEIGHTS):
    """The loss of the library."""
    labels, options = CASES[case]
    loss = tf1xent.losses.sparse_softmax_cross_entropy
    if labels.ndim == 2:
        loss = tf1xent.losses.softmax_cross_entropy
    options = dict(options)
    for name in ("weights", "class_weights"):
        if name in options:
            options[name] = options[name].astype(logits.dtype.as_numpy_dtype)
    return loss(labels, logits, reduction=reduction, **options)


def true_weights(case):
    """The weights of the rows, 0 for those that do not count, over the number of the others."""
    labels, options = CASES[case]
    weights = options.get("weights", np.ones(ROWS)) * options.get("mask", 1)
    if "ignore_label" in options:
        weights = weights * (labels != options["ignore_label"])
    return weights / np.count_nonzero(weights)


def true_losses(logits, case):
    """The losses by row of the oracle, over the loss's denominator: a jet [ROWS]."""
    labels, options = CASES[case]
    targets = labels if labels.ndim == 2 else np.eye(CLASSES)[labels]
    numbers = {
        name: value
        for name, value in options.items()
        if name not in ("weights", "mask", "ignore_label")
    }
    return reference.cross_entropy(logits, targets, weights=true_weights(case), **numbers)


def true_loss(logits, case):
    """The loss of the oracle: a scalar jet."""
    return true_losses(logits, case).sum(0)
