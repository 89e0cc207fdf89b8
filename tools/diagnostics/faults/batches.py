"""Faults in the data: features and labels."""

from typing import Any, Callable, Tuple

import numpy as np

from diagnostics.data import CLASSES, Batch
from diagnostics.faults.fault import Fault, in_batch, row_of
from diagnostics.recipes import LOSSES, Recipe, one_hot, planted
from tf1xent._tf import tf

INPUTS, LABELS = "inputs not finite", "labels out of range"
_FED = "features|weights|Iterator|input_"


def _pixel(value: float) -> Callable[[Recipe], None]:
    def plant(recipe: Recipe) -> None:
        recipe.place, position = _FED, recipe.rng.randint(64)

        def change(batch: Batch) -> Batch:
            flat = batch.features.reshape(len(batch.features), -1).copy()
            flat[row_of(recipe, batch), position] = value
            return batch._replace(features=flat.reshape(batch.features.shape))

        in_batch(recipe, change)

    return plant


def _missing_row(recipe: Recipe) -> None:
    recipe.place = _FED

    def change(batch: Batch) -> Batch:
        features = batch.features.copy()
        features[row_of(recipe, batch)] = np.nan
        return batch._replace(features=features)

    in_batch(recipe, change)


def _standardised(recipe: Recipe) -> None:
    recipe.place = _FED

    def change(batch: Batch) -> Batch:
        x = batch.features
        with np.errstate(all="ignore"):
            return batch._replace(features=(x - x.mean(0)) / x.std(0))

    in_batch(recipe, change)


def _width(recipe: Recipe) -> None:
    recipe.place = _FED

    def change(batch: Batch) -> Batch:
        flat = batch.features.reshape(len(batch.features), -1).copy()
        widths = np.full(len(flat), 0.5, np.float32)
        widths[row_of(recipe, batch)] = -0.25
        with np.errstate(all="ignore"):
            flat[:, 0] = np.log(widths)
        return batch._replace(features=flat.reshape(batch.features.shape))

    in_batch(recipe, change)


def _large_double(recipe: Recipe) -> None:
    recipe.place = _FED

    def change(batch: Batch) -> Batch:
        wide = batch.features.astype(np.float64)
        wide[row_of(recipe, batch)] = 1e39
        with np.errstate(all="ignore"):
            return batch._replace(features=wide.astype(np.float32))

    in_batch(recipe, change)


def _weight(recipe: Recipe) -> None:
    recipe.place = _FED

    def change(batch: Batch) -> Batch:
        weights = batch.weights.copy()
        weights[row_of(recipe, batch)] = np.nan
        return batch._replace(weights=weights)

    in_batch(recipe, change)


def _labels(value: int, losses: Callable[..., Any], ops: str) -> Callable[[Recipe], None]:
    def plant(recipe: Recipe) -> None:
        recipe.place = f"labels|Iterator|target|{ops}"
        recipe.losses = losses

        def change(batch: Batch) -> Batch:
            labels = batch.labels.copy()
            labels[row_of(recipe, batch)] = value
            weights = batch.weights.copy()
            weights[row_of(recipe, batch)] = 1
            return batch._replace(labels=labels, weights=weights)

        in_batch(recipe, change)

    return plant


def _counted_from_one(recipe: Recipe) -> None:
    recipe.place, recipe.losses = "labels|Iterator|target|SparseSoftmax", LOSSES["sparse"]

    def change(batch: Batch) -> Batch:
        labels = batch.labels + 1
        labels[row_of(recipe, batch)] = CLASSES
        return batch._replace(labels=labels)

    in_batch(recipe, change)


def _padding(recipe: Recipe) -> None:
    recipe.place, recipe.losses = "labels|Iterator|target|SparseSoftmax", LOSSES["sparse"]

    def change(batch: Batch) -> Batch:
        weights = batch.weights.copy()
        weights[0, -1] = 0
        labels = np.where(weights > 0, batch.labels, -1).astype(np.int32)
        return batch._replace(labels=labels, weights=weights)

    in_batch(recipe, change)


@planted
def _gathered(logits: Any, labels: Any) -> Any:
    rows = tf.range(tf.shape(labels)[0])
    true = tf.gather_nd(logits, tf.stack([rows, labels], 1))
    return tf.reduce_logsumexp(logits, 1) - true


@planted
def _log_of_chosen(logits: Any, labels: Any) -> Any:
    p = tf.nn.softmax(logits)
    return -tf.log(tf.reduce_sum(one_hot(labels) * p, 1))


@planted
def _binary(logits: Any, labels: Any) -> Any:
    p, target = tf.nn.sigmoid(logits[:, 0]), tf.cast(labels, tf.float32)
    return -(target * tf.log(p) + (1 - target) * tf.log(1 - p))


def _class_as_target(recipe: Recipe) -> None:
    recipe.place, recipe.losses = "labels|Iterator|target|planted", _binary
    recipe.steps = 60
    recipe.rate = lambda step: recipe.plan.rate * recipe.strength


FAULTS: Tuple[Fault, ...] = (
    Fault(INPUTS, "NaN pixel", "one fed number is NaN", "", _pixel(np.nan)),
    Fault(INPUTS, "inf pixel", "one fed number is inf", "", _pixel(np.inf)),
    Fault(INPUTS, "-inf pixel", "one fed number is -inf", "", _pixel(-np.inf)),
    Fault(INPUTS, "missing row", "a reader gives NaN for a file that is missing", "", _missing_row),
    Fault(
        INPUTS,
        "standardised by 0",
        "NumPy divides pixels by a deviation of 0; what is fed is NaN",
        "",
        _standardised,
    ),
    Fault(INPUTS, "log of a width", "NumPy's log of a negative width is fed", "", _width),
    Fault(INPUTS, "too large for float32", "1e39 becomes inf before it is fed", "", _large_double),
    Fault(INPUTS, "NaN weight of a row", "a weight that is fed is NaN", "", _weight, keras=False),
    Fault(
        LABELS, "label -1", "one label is -1", "", _labels(-1, LOSSES["sparse"], "SparseSoftmax")
    ),
    Fault(
        LABELS,
        "label 255",
        "the void label of a data set, one row",
        "",
        _labels(255, LOSSES["sparse"], "SparseSoftmax"),
    ),
    Fault(LABELS, "counted from 1", "the labels of a batch are 1 to 10", "", _counted_from_one),
    Fault(
        LABELS,
        "gather_nd of label 10",
        "a hand-written loss gathers class 10 of 10",
        "",
        _labels(CLASSES, _gathered, "planted"),
    ),
    Fault(
        LABELS,
        "one_hot of label 10",
        "one_hot gives no class, the loss is -log of a sum of nothing",
        "log of 0",
        _labels(CLASSES, _log_of_chosen, "planted"),
    ),
    Fault(
        LABELS,
        "one_hot of label -1",
        "one_hot gives no class, the loss is -log of a sum of nothing",
        "log of 0",
        _labels(-1, _log_of_chosen, "planted"),
    ),
    Fault(
        LABELS,
        "class as binary target",
        "targets 0 to 9 where a binary cross-entropy needs 0 to 1: it has no minimum",
        "log of 0",
        _class_as_target,
    ),
    Fault(LABELS, "padding of -1", "masked, but the op reads it", "", _padding, ("tagger",)),
)
