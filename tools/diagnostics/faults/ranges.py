"""Faults in formulas: divisions by nothing, numbers beyond a type's range."""

from typing import Any, Callable, Tuple

import numpy as np

from diagnostics.data import CLASSES, Batch
from diagnostics.faults.fault import Fault, confident, in_batch, louder
from diagnostics.recipes import Function, Parts, Recipe, one_hot, planted
from tf1xent._tf import tf

ZERO, OVERFLOW, HALF = "0/0", "overflow", "half precision"


# --- 0/0 ------------------------------------------------------------------------------------------


def _empty(recipe: Recipe) -> None:
    recipe.mean, recipe.place = planted(lambda losses, weights: tf.reduce_mean(losses)), "planted"
    in_batch(recipe, lambda b: Batch(b.features[:0], b.labels[:0], b.weights[:0]))


def _masked(recipe: Recipe) -> None:
    in_batch(recipe, lambda b: b._replace(weights=b.weights * 0))


def _all_masked(recipe: Recipe) -> None:
    recipe.mean = planted(lambda losses, w: tf.reduce_sum(losses * w) / tf.reduce_sum(w))
    _masked(recipe)


def _none_chosen(recipe: Recipe) -> None:
    recipe.mean = planted(lambda losses, w: tf.reduce_mean(tf.boolean_mask(losses, w > 0)))
    _masked(recipe)


def _row_masked(recipe: Recipe) -> None:
    def mean(losses: Any, weights: Any) -> Any:
        losses, weights = tf.reshape(losses, [-1, 8]), tf.reshape(weights, [-1, 8])
        sums = tf.reduce_sum(losses * weights, axis=1)
        return tf.reduce_mean(sums / tf.reduce_sum(weights, axis=1))

    recipe.mean = planted(mean)

    def change(batch: Batch) -> Batch:
        weights = batch.weights.copy()
        weights[recipe.plan.seed % len(weights)] = 0
        return batch._replace(weights=weights)

    in_batch(recipe, change)


def _nothing_attended(recipe: Recipe) -> None:
    """Softmax over the units that a row may look at: those above 0; a blank row has none."""

    def attend(hidden: Any) -> Any:
        scores = tf.where(hidden > 0, hidden, tf.fill(tf.shape(hidden), -np.inf))
        return hidden * tf.nn.softmax(scores)

    recipe.activation, recipe.between, recipe.steps = tf.nn.relu, planted(attend), 4

    def values(values: Any) -> None:
        for name in values:
            if name.endswith("bias"):
                values[name][:] = 0

    recipe.change_values = values

    def blank(batch: Batch) -> Batch:
        features = batch.features.copy()
        features[recipe.plan.seed % len(features)] = 0
        return batch._replace(features=features)

    recipe.change_batch = lambda step, batch: blank(batch) if step == 1 else batch


def _standardised(recipe: Recipe) -> None:
    def standardise(x: Any) -> Any:
        mean = tf.reduce_mean(x, axis=0, keepdims=True)
        deviation = tf.sqrt(tf.reduce_mean(tf.square(x - mean), axis=0, keepdims=True))
        return (x - mean) / deviation

    recipe.features, recipe.steps = planted(standardise), 4


def _class_means(recipe: Recipe) -> None:
    def penalty(parts: Parts) -> Any:
        counts = tf.unsorted_segment_sum(tf.ones_like(parts.hidden), parts.labels, CLASSES)
        sums = tf.unsorted_segment_sum(parts.hidden, parts.labels, CLASSES)
        return 0.01 * tf.reduce_mean(tf.square(sums / counts))

    recipe.penalty, recipe.steps = planted(penalty), 4
    recipe.change_batch = lambda step, batch: batch._replace(labels=batch.labels % 7)


# --- Overflow -------------------------------------------------------------------------------------


def _softmax(logits: Any, labels: Any) -> Any:
    powers = tf.exp(logits)
    p = powers / tf.reduce_sum(powers, axis=1, keepdims=True)
    return -tf.log(tf.reduce_sum(one_hot(labels) * p, axis=1) + 1e-9)


def _logsumexp(logits: Any, labels: Any) -> Any:
    true = tf.reduce_sum(one_hot(labels) * logits, axis=1)
    return tf.log(tf.reduce_sum(tf.exp(logits), axis=1)) - true


def _log_cosh(logits: Any, labels: Any) -> Any:
    errors = logits - one_hot(labels)
    cosh = (tf.exp(errors) + tf.exp(-errors)) / 2
    return tf.reduce_mean(tf.log(cosh), axis=1)


def _in_loss(losses: Function) -> Callable[[Recipe], None]:
    def plant(recipe: Recipe) -> None:
        recipe.losses = planted(losses)
        confident(recipe)

    return plant


def _in_layers(activation: Function) -> Callable[[Recipe], None]:
    def plant(recipe: Recipe) -> None:
        louder(recipe)
        recipe.activation = planted(activation)

    return plant


def _mish(x: Any) -> Any:
    return x * tf.tanh(tf.log(1 + tf.exp(x)))


def _softplus(x: Any) -> Any:
    return tf.log(1 + tf.exp(x))


def _power(recipe: Recipe) -> None:
    recipe.penalty = planted(lambda parts: 1e-6 * tf.reduce_mean(tf.pow(parts.hidden, 16.0)))
    louder(recipe)


# --- Half precision -------------------------------------------------------------------------------


def _in_half(plant: Callable[[Recipe], None], stored: bool = False) -> Callable[[Recipe], None]:
    def plant_in_half(recipe: Recipe) -> None:
        recipe.dtype = tf.float16
        recipe.dtype_of_variables = tf.float16 if stored else tf.float32
        plant(recipe)

    return plant_in_half


def _sum_of_squares(recipe: Recipe) -> None:
    recipe.penalty = planted(lambda parts: 1e-4 * tf.reduce_sum(tf.square(parts.hidden)))
    louder(recipe)


def _epsilon_in_log(recipe: Recipe) -> None:
    def losses(logits: Any, labels: Any) -> Any:
        p = tf.nn.softmax(logits)
        return -tf.log(tf.reduce_sum(one_hot(labels, logits.dtype) * p, axis=1) + 1e-8)

    recipe.losses = planted(losses)
    louder(recipe)


def _epsilon_of_adam(recipe: Recipe) -> None:
    recipe.optimizer = lambda rate: tf.train.AdamOptimizer(rate, epsilon=1e-8)
    recipe.rate = lambda step: 0.002
    recipe.place, recipe.steps = "Adam", 4


def _epsilon_of_count(recipe: Recipe) -> None:
    recipe.mean = planted(lambda losses, w: tf.reduce_sum(losses * w) / (tf.reduce_sum(w) + 1e-8))
    _masked(recipe)


def _epsilon_of_norm(recipe: Recipe) -> None:
    def normalise(hidden: Any) -> Any:
        away = hidden - tf.reduce_mean(hidden, axis=1, keepdims=True)
        variance = tf.reduce_mean(tf.square(away), axis=1, keepdims=True)
        return away * tf.rsqrt(variance + 1e-8)

    recipe.between, recipe.steps = planted(normalise), 4

    def blank(batch: Batch) -> Batch:
        features = batch.features.copy()
        features[recipe.plan.seed % len(features)] = 0
        return batch._replace(features=features)

    recipe.change_batch = lambda step, batch: blank(batch) if step == 1 else batch


def _scaled_loss(recipe: Recipe) -> None:
    when, large = recipe.plan.when, 2.0**15 * recipe.strength
    recipe.place = "planted"

    def penalty(parts: Parts) -> Any:
        return tf.zeros([], tf.float16)

    recipe.penalty = penalty
    mean = recipe.mean

    def scaled(losses: Any, weights: Any) -> Any:
        step = tf.train.get_or_create_global_step()
        factor = tf.where(step >= when - 1, tf.constant(large), tf.constant(8.0))
        return mean(losses, weights) * tf.cast(factor, tf.float16)

    recipe.mean = planted(scaled)
    recipe.rate = lambda step: recipe.plan.rate / 8
    recipe.gradients = lambda pairs: pairs


def _exp_in_half(recipe: Recipe) -> None:
    def losses(logits: Any, labels: Any) -> Any:
        powers = tf.exp(logits)
        p = powers / tf.reduce_sum(powers, axis=1, keepdims=True)
        return -tf.log(tf.reduce_sum(one_hot(labels, logits.dtype) * p, axis=1) + 1e-3)

    recipe.losses = planted(losses)
    louder(recipe)


FAULTS: Tuple[Fault, ...] = (
    # A process of TensorFlow 2.21 dies of the gradient of max_pool of no rows.
    Fault(ZERO, "empty batch", "the mean of no rows", "", _empty, ("MLP", "tagger"), keras=False),
    Fault(ZERO, "all rows masked", "sum of weights is 0", "", _all_masked, keras=False),
    Fault(ZERO, "boolean_mask keeps none", "the mean of no rows", "", _none_chosen, keras=False),
    Fault(
        ZERO,
        "a row all masked",
        "a row's mean over 0 steps",
        "",
        _row_masked,
        ("tagger",),
        keras=False,
    ),
    Fault(
        ZERO,
        "softmax over nothing",
        "every score of a row is -inf: its softmax is 0/0",
        "",
        _nothing_attended,
        keras=False,
    ),
    Fault(
        ZERO,
        "standardised in the graph",
        "pixels that are 0 in the whole batch, divided by their deviation",
        "",
        _standardised,
        keras=False,
    ),
    Fault(ZERO, "mean of an absent class", "a sum and a count of 0", "", _class_means, keras=False),
    Fault(OVERFLOW, "softmax by hand", "exp of a logit above 88: inf/inf", "", _in_loss(_softmax)),
    Fault(OVERFLOW, "logsumexp by hand", "exp of a logit above 88", "", _in_loss(_logsumexp)),
    Fault(OVERFLOW, "log(cosh)", "exp of an error above 88", "", _in_loss(_log_cosh)),
    Fault(OVERFLOW, "exp units", "exp of a hidden unit above 88", "", _in_layers(tf.exp)),
    Fault(
        OVERFLOW,
        "mish by hand",
        "exp is inf; tanh makes the value 1 again, the gradient is inf/inf",
        "singular gradient",
        _in_layers(_mish),
    ),
    Fault(OVERFLOW, "softplus by hand", "exp of a hidden unit", "", _in_layers(_softplus)),
    Fault(OVERFLOW, "power 16", "a hidden unit's 16th power", "", _power, keras=False),
    Fault(
        HALF,
        "sum of squares",
        "above 65504; in float32 it is finite",
        "overflow",
        _in_half(_sum_of_squares),
        keras=False,
    ),
    Fault(
        HALF,
        "epsilon in a log",
        "1e-8 is 0 in float16: log of 0; in float32 it is finite",
        "log of 0",
        _in_half(_epsilon_in_log),
        keras=False,
    ),
    Fault(
        HALF,
        "epsilon of Adam",
        "squares of small gradients and 1e-8 are 0 in float16: 0/0 in the update",
        "0/0",
        _in_half(_epsilon_of_adam, stored=True),
        keras=False,
    ),
    Fault(
        HALF,
        "epsilon of a count",
        "1e-8 is 0 in float16: a masked batch is 0/0; in float32 it is 0",
        "0/0",
        _in_half(_epsilon_of_count),
        keras=False,
    ),
    Fault(
        HALF,
        "epsilon of a norm",
        "1e-8 is 0 in float16: rsqrt of 0; in float32 it is finite",
        "",
        _in_half(_epsilon_of_norm),
        keras=False,
    ),
    Fault(
        HALF,
        "loss scale",
        "the scaled loss is above 65504",
        "overflow",
        _in_half(_scaled_loss),
        keras=False,
    ),
    Fault(
        HALF,
        "softmax by hand",
        "exp of 11.1 is above 65504; in float32 it is finite",
        "overflow",
        _in_half(_exp_in_half),
        keras=False,
    ),
)
