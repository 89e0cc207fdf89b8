"""Faults in formulas: logarithms, roots, divisions, exponentials."""

from typing import Any, Callable, Tuple

import numpy as np

from diagnostics.data import Batch
from diagnostics.faults.fault import Fault, confident, in_batch, row_of
from diagnostics.recipes import Function, Parts, Recipe, one_hot, planted
from tf1xent._tf import tf

LOG, SINGULAR = "log of 0", "singular gradient"


def _loss(losses: Function, prepare: Callable[[Recipe], None]) -> Callable[[Recipe], None]:
    def plant(recipe: Recipe) -> None:
        recipe.losses = planted(losses)
        prepare(recipe)

    return plant


def _always(recipe: Recipe) -> None:
    recipe.steps = 4


# --- Logarithms -----------------------------------------------------------------------------------


def _log_of_softmax(logits: Any, labels: Any) -> Any:
    return -tf.reduce_sum(one_hot(labels) * tf.log(tf.nn.softmax(logits)), axis=1)


def _log_of_true(logits: Any, labels: Any) -> Any:
    rows = tf.range(tf.shape(labels)[0])
    p = tf.nn.softmax(logits)
    return -tf.log(tf.gather_nd(p, tf.stack([rows, labels], 1)))


def _log_of_sigmoid(logits: Any, labels: Any) -> Any:
    p, t = tf.nn.sigmoid(logits), one_hot(labels)
    return -tf.reduce_sum(t * tf.log(p) + (1 - t) * tf.log(1 - p), axis=1)


def _divergence(logits: Any, labels: Any) -> Any:
    t, p = one_hot(labels), tf.nn.softmax(logits)
    return tf.reduce_sum(t * tf.log(t / p), axis=1)


def _poisson(logits: Any, labels: Any) -> Any:
    rates = tf.nn.relu(logits)
    return tf.reduce_sum(rates - one_hot(labels) * tf.log(rates), axis=1)


def _entropy(recipe: Recipe) -> None:
    def penalty(parts: Parts) -> Any:
        p = tf.nn.softmax(parts.logits)
        return 0.01 * tf.reduce_mean(tf.reduce_sum(p * tf.log(p), axis=1))

    recipe.penalty = planted(penalty)
    confident(recipe)


def _log_of_features(recipe: Recipe) -> None:
    recipe.activation, recipe.steps = tf.nn.relu, 4
    recipe.between = planted(tf.log)


# --- Singular gradients ---------------------------------------------------------------------------


def _twins(recipe: Recipe) -> None:
    """A batch holds the same image twice, in neighbouring rows."""

    def change(batch: Batch) -> Batch:
        row = row_of(recipe, batch) % (len(batch.features) - 1)
        return Batch(*(_copied(array, row) for array in batch))

    in_batch(recipe, change)


def _copied(array: np.ndarray, row: int) -> np.ndarray:
    array = array.copy()
    array[row + 1] = array[row]
    return array


def _differences(parts: Parts) -> Any:
    """Returns what hidden units of neighbouring rows differ by; the tagger's of all steps."""
    rows = tf.reshape(parts.hidden, [tf.shape(parts.features)[0], -1])
    return rows[1:] - rows[:-1]


def _squares(parts: Parts) -> Any:
    return tf.reduce_sum(tf.square(_differences(parts)), axis=1)


def _of_twins(distance: Function) -> Callable[[Recipe], None]:
    def plant(recipe: Recipe) -> None:
        def penalty(parts: Parts) -> Any:
            return 0.01 * tf.reduce_mean(distance(parts))

        recipe.penalty = planted(penalty)
        _twins(recipe)

    return plant


def _rooted(parts: Parts) -> Any:
    return tf.sqrt(_squares(parts))


def _normed(parts: Parts) -> Any:
    return tf.norm(_differences(parts), axis=1)


def _powered(parts: Parts) -> Any:
    return tf.pow(_squares(parts), 0.5)


def _powered_where(parts: Parts) -> Any:
    squares = _squares(parts)
    return tf.where(squares > 0, tf.pow(squares, 0.5), tf.zeros_like(squares))


def _log_where(recipe: Recipe) -> None:
    recipe.activation, recipe.steps = tf.nn.relu, 4

    def penalty(parts: Parts) -> Any:
        h = parts.hidden
        return 0.01 * tf.reduce_mean(tf.where(h > 0, tf.log(h), tf.zeros_like(h)))

    recipe.penalty = planted(penalty)


def _norm_of_zeros(recipe: Recipe) -> None:
    recipe.steps = 4
    recipe.change_values = lambda values: values["output/kernel"].fill(0)

    def penalty(parts: Parts) -> Any:
        return 0.01 * tf.sqrt(tf.reduce_sum(tf.square(parts.variables["output/kernel"])))

    recipe.penalty = planted(penalty)


def _deviation(recipe: Recipe) -> None:
    def penalty(parts: Parts) -> Any:
        away = parts.hidden - tf.reduce_mean(parts.hidden, axis=0, keepdims=True)
        return -0.01 * tf.reduce_mean(tf.sqrt(tf.reduce_mean(tf.square(away), axis=0)))

    recipe.penalty = planted(penalty)
    if recipe.plan.model == "tagger":
        # Every step of a row must be the same: one row of blank images, before any training.
        recipe.change_values = lambda values: values["cell/recurrent"].fill(0)
        blank = lambda b: Batch(b.features[:1] * 0, b.labels[:1], b.weights[:1])  # noqa: E731
        recipe.change_batch = lambda step, batch: blank(batch) if step == 1 else batch
        recipe.steps = 4
    else:
        in_batch(recipe, lambda b: Batch(b.features[:1], b.labels[:1], b.weights[:1]))


def _divided_where(recipe: Recipe) -> None:
    """Hidden units are divided by their length, but for a blank row, where all are 0."""

    def normalise(hidden: Any) -> Any:
        squares = tf.reduce_sum(tf.square(hidden), axis=1, keepdims=True) + 0 * hidden
        return tf.where(squares > 0, hidden / squares, tf.zeros_like(hidden))

    recipe.activation, recipe.between, recipe.steps = tf.nn.tanh, planted(normalise), 4

    def blank(batch: Batch) -> Batch:
        features = batch.features.copy()
        features[row_of(recipe, batch)] = 0
        return batch._replace(features=features)

    recipe.change_batch = lambda step, batch: blank(batch) if step == 1 else batch


FAULTS: Tuple[Fault, ...] = (
    Fault(
        LOG,
        "labels * log(softmax)",
        "a class's probability underflows to 0; the loss from the logits is finite",
        "",
        _loss(_log_of_softmax, confident),
    ),
    Fault(
        LOG,
        "log of the true class",
        "the true class's probability underflows to 0",
        "",
        _loss(_log_of_true, confident),
    ),
    Fault(
        LOG,
        "log(1 - sigmoid)",
        "a sigmoid is 1 in float32",
        "",
        _loss(_log_of_sigmoid, confident),
    ),
    Fault(
        LOG,
        "t log(t / p) with hard targets",
        "0 times log of 0, at every step",
        "",
        _loss(_divergence, _always),
    ),
    Fault(LOG, "log of a relu's rate", "a Poisson rate is 0", "", _loss(_poisson, _always)),
    Fault(LOG, "p log(p)", "the entropy of a row that is certain", "", _entropy, keras=False),
    Fault(LOG, "log of features", "hidden units that are 0", "", _log_of_features),
    Fault(
        SINGULAR,
        "sqrt of a distance",
        "the same image twice: sqrt's slope at 0; the loss is finite",
        "",
        _of_twins(_rooted),
        keras=False,
    ),
    Fault(SINGULAR, "norm", "tf.norm of a difference of 0", "", _of_twins(_normed), keras=False),
    Fault(SINGULAR, "power 0.5", "tf.pow's slope at 0", "", _of_twins(_powered), keras=False),
    Fault(
        SINGULAR,
        "where over a power",
        "the branch that tf.where drops has an infinite slope",
        "",
        _of_twins(_powered_where),
        keras=False,
    ),
    Fault(
        SINGULAR,
        "where over log",
        "the branch that tf.where drops has an infinite slope",
        "log of 0",
        _log_where,
        keras=False,
    ),
    Fault(
        SINGULAR,
        "where over a division",
        "a blank row's length is 0: the loss is finite, the dropped branch's gradient is not",
        "0/0",
        _divided_where,
        keras=False,
    ),
    Fault(
        SINGULAR,
        "norm of zero weights",
        "a kernel begins at 0: its norm has no gradient there",
        "",
        _norm_of_zeros,
        keras=False,
    ),
    Fault(
        SINGULAR,
        "deviation of one row",
        "sqrt of a variance of 0: its slope",
        "",
        _deviation,
        keras=False,
    ),
)
