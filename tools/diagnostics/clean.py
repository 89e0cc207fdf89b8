"""Healthy trainings with what may look like a fault: none of them may raise an alarm."""

from typing import Any, Tuple

import numpy as np

from diagnostics.data import CLASSES, Batch
from diagnostics.faults.fault import Fault
from diagnostics.recipes import LOSSES, OPTIMIZERS, Parts, Recipe, one_hot, planted
from tf1xent._tf import tf

# Longer than the 50 steps for which a state must last to count as one.
STEPS = 80


def _plain(recipe: Recipe) -> None:
    recipe.steps = STEPS


def _where_on_data(recipe: Recipe) -> None:
    """The dropped branch is NaN, and no gradient goes there."""
    recipe.features = planted(
        lambda x: tf.where(x > 0.5, tf.sqrt(x - 0.5), tf.zeros_like(x)) + x  # NaN where x < 0.5
    )
    recipe.steps = STEPS


def _where_safe(recipe: Recipe) -> None:
    def penalty(parts: Parts) -> Any:
        squares = tf.reduce_sum(tf.square(parts.hidden[1:] - parts.hidden[:-1]), axis=1)
        safe = tf.where(squares > 0, squares, tf.ones_like(squares))
        return 0.01 * tf.reduce_mean(tf.where(squares > 0, tf.sqrt(safe), tf.zeros_like(safe)))

    recipe.penalty, recipe.steps = planted(penalty), STEPS
    recipe.change_batch = _twins


def _where_over_sqrt(recipe: Recipe) -> None:
    """The slope of sqrt at 0, times 0: TensorFlow's own gradient of sqrt gives 0 for that."""

    def penalty(parts: Parts) -> Any:
        squares = tf.reduce_sum(tf.square(parts.hidden[1:] - parts.hidden[:-1]), axis=1)
        return 0.01 * tf.reduce_mean(
            tf.where(squares > 0, tf.sqrt(squares), tf.zeros_like(squares))
        )

    recipe.penalty, recipe.steps = planted(penalty), STEPS
    recipe.change_batch = _twins


def _twins(step: int, batch: Batch) -> Batch:
    return Batch(*(np.concatenate([array[:1], array[:-1]]) for array in batch))


def _root_with_epsilon(recipe: Recipe) -> None:
    def penalty(parts: Parts) -> Any:
        squares = tf.reduce_sum(tf.square(parts.hidden[1:] - parts.hidden[:-1]), axis=1)
        return 0.01 * tf.reduce_mean(tf.sqrt(squares + 1e-6))

    recipe.penalty, recipe.steps = planted(penalty), STEPS


def _large_loss(recipe: Recipe) -> None:
    """A loss in other units; the rate is in theirs."""
    factor = np.float32(1e6)
    losses, healthy = recipe.losses, recipe.plan.rate
    recipe.losses = lambda logits, labels: losses(logits, labels) * factor
    is_adam = recipe.plan.optimizer == "Adam"
    recipe.rate = lambda step: healthy if is_adam else healthy / factor
    recipe.steps = STEPS


def _warm_up(recipe: Recipe) -> None:
    """The rate rises to its full height in the first steps, and the loss with it, for a while."""
    high, when = 8 * recipe.plan.rate, recipe.plan.when
    recipe.rate = lambda step: tf.where(
        tf.abs(tf.cast(step, tf.float32) - when) < 4, tf.constant(high), tf.constant(high / 8)
    )
    recipe.steps = STEPS


def _hard_batch(recipe: Recipe) -> None:
    """One batch has wrong labels: the loss jumps, and comes back."""

    def change(step: int, batch: Batch) -> Batch:
        if step != recipe.plan.when:
            return batch
        return batch._replace(labels=(batch.labels + 3) % CLASSES)

    recipe.change_batch, recipe.steps = change, STEPS


def _embedding(recipe: Recipe) -> None:
    """Rows of a table that are seldom read: their gradient is sparse."""

    def embed(x: Any) -> Any:
        table = tf.get_variable(
            "table", initializer=np.linspace(0, 1, 40, dtype=np.float32).reshape(40, 1)
        )
        levels = tf.cast(x * 16, tf.int32)
        return tf.reshape(tf.nn.embedding_lookup(table, tf.reshape(levels, [-1])), tf.shape(x))

    def shaped(x: Any) -> Any:
        found = embed(x)
        found.set_shape(x.shape)
        return found

    recipe.features, recipe.steps = shaped, STEPS


def _clipped(recipe: Recipe) -> None:
    def clip(pairs: Any) -> Any:
        gradients, _ = tf.clip_by_global_norm([g for g, _ in pairs], 0.5)
        return list(zip(gradients, [v for _, v in pairs]))

    recipe.gradients, recipe.steps = clip, STEPS


def _dropout(recipe: Recipe) -> None:
    recipe.between = lambda h: tf.nn.dropout(h, keep_prob=0.7, seed=recipe.plan.seed)
    recipe.steps = STEPS


def _batch_norm(recipe: Recipe) -> None:
    def normalise(hidden: Any) -> Any:
        width = int(hidden.shape[-1])
        gain = tf.get_variable("gain", [width], initializer=tf.ones_initializer())
        offset = tf.get_variable("offset", [width], initializer=tf.zeros_initializer())
        kept = tf.get_variable(
            "kept", initializer=np.zeros([2, width], np.float32), trainable=False
        )
        mean, variance = tf.nn.moments(hidden, [0])
        update = tf.assign(kept, 0.9 * kept + 0.1 * tf.stack([mean, variance]))
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, getattr(update, "op", update))
        return tf.nn.batch_normalization(hidden, mean, variance, offset, gain, 1e-3)

    recipe.between, recipe.steps = normalise, STEPS


def _frozen(recipe: Recipe) -> None:
    recipe.trainable = lambda name: name.startswith("output")
    recipe.steps = STEPS


def _masked_classes(recipe: Recipe) -> None:
    """A class that no row has gets a logit of -inf; the sparse op bears it."""
    recipe.losses = LOSSES["sparse"]
    closed = np.zeros([CLASSES], bool)
    closed[7:] = True

    def mask(logits: Any) -> Any:
        where = tf.logical_and(tf.ones_like(logits) > 0, closed)
        return tf.where(where, tf.fill(tf.shape(logits), np.float32(-np.inf)), logits)

    recipe.logits, recipe.steps = mask, STEPS
    recipe.change_batch = lambda step, batch: batch._replace(labels=batch.labels % 7)


def _attention(recipe: Recipe) -> None:
    """Some scores are -inf, and in each row one is not."""

    def attend(hidden: Any) -> Any:
        open_ = np.arange(int(hidden.shape[-1])) % 3 == 0
        where = tf.logical_and(tf.ones_like(hidden) > 0, open_)
        scores = tf.where(where, hidden, tf.fill(tf.shape(hidden), np.float32(-np.inf)))
        return hidden + tf.nn.softmax(scores)

    recipe.between, recipe.steps = attend, STEPS


def _scaled_half(recipe: Recipe) -> None:
    """Computed in float16, stored in float32, the loss times 128 before it is differentiated."""
    recipe.dtype, recipe.scale = tf.float16, 128.0
    recipe.losses = lambda logits, labels: LOSSES["sparse"](logits, labels)
    recipe.steps = STEPS


def _half_with_epsilon(recipe: Recipe) -> None:
    recipe.dtype = recipe.dtype_of_variables = tf.float16
    recipe.optimizer = lambda rate: tf.train.AdamOptimizer(rate, epsilon=1e-3)
    recipe.rate = lambda step: 0.005
    recipe.losses, recipe.steps = LOSSES["sparse"], STEPS


def _rows_without_weight(recipe: Recipe) -> None:
    def change(step: int, batch: Batch) -> Batch:
        weights = batch.weights.copy()
        weights[step % 3 + 1 :: 3] = 0
        return batch._replace(weights=weights)

    recipe.change_batch, recipe.steps = change, STEPS


def _smoothed(recipe: Recipe) -> None:
    def losses(logits: Any, labels: Any) -> Any:
        targets = 0.9 * one_hot(labels) + 0.1 / CLASSES
        return -tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=1)

    recipe.losses, recipe.steps = losses, STEPS


def _slow(recipe: Recipe) -> None:
    """A rate so small that the loss hardly moves; the parameters do."""
    recipe.rate = lambda step: 0.02 * recipe.plan.rate
    recipe.steps = STEPS


def _decayed(recipe: Recipe) -> None:
    recipe.rate = lambda step: tf.train.exponential_decay(recipe.plan.rate, step, 20, 0.5)
    recipe.steps = STEPS


def _log_with_epsilon(recipe: Recipe) -> None:
    def losses(logits: Any, labels: Any) -> Any:
        p = tf.reduce_sum(one_hot(labels) * tf.nn.softmax(logits), axis=1)
        return -tf.log(p + 1e-7)

    recipe.losses, recipe.steps = losses, STEPS


def _two_turns(recipe: Recipe) -> None:
    """Layers take turns: in each step some gradients are 0."""

    def turns(pairs: Any) -> Any:
        even = tf.equal(tf.train.get_or_create_global_step() % 2, 0)
        flags = [tf.cast(even if i % 2 else tf.logical_not(even), tf.float32) for i in range(2)]
        return [(g * flags[i % 2], v) for i, (g, v) in enumerate(pairs)]

    recipe.gradients, recipe.steps = turns, STEPS
    recipe.optimizer = OPTIMIZERS["SGD"]


def _row(name: str, why: str, plant: Any, models: Any = ("MLP", "CNN", "tagger")) -> Fault:
    return Fault("none", name, why, "", plant, models, keras=plant in (_plain, _hard_batch, _slow))


TRAININGS: Tuple[Fault, ...] = (
    _row("nothing odd", "a plain training", _plain),
    _row("where over sqrt of data", "NaN in a branch that is dropped, no gradient", _where_on_data),
    _row("where over sqrt", "sqrt's gradient is 0 where it is dropped", _where_over_sqrt),
    _row("where over a safe sqrt", "two wheres, as is right", _where_safe),
    _row("sqrt with an epsilon", "finite slope", _root_with_epsilon),
    _row("loss of 1e6", "in other units", _large_loss),
    _row("warm-up", "eight times the rate for seven steps", _warm_up),
    _row("hard batch", "wrong labels in one batch", _hard_batch),
    _row("embedding", "rows that no batch reads do not change", _embedding, ("MLP", "tagger")),
    _row("clipped gradients", "by their global norm", _clipped),
    _row("dropout", "0 in places", _dropout),
    _row("batch norm", "moving statistics", _batch_norm),
    _row("frozen layers", "made with trainable=False", _frozen),
    _row("classes at -inf", "masked logits", _masked_classes),
    _row("attention at -inf", "masked scores", _attention),
    _row("float16, scaled loss", "128 times, then divided", _scaled_half),
    _row("float16, epsilon 1e-3", "Adam's, large enough", _half_with_epsilon),
    _row("rows without weight", "their loss is 0", _rows_without_weight),
    _row("smoothed labels", "targets above 0", _smoothed),
    _row("slow", "a hundredth of the rate", _slow),
    _row("decayed rate", "small at the end, not 0", _decayed),
    _row("log with an epsilon", "1e-7 in float32", _log_with_epsilon),
    _row("layers take turns", "half of the gradients are 0 in a step", _two_turns),
)
