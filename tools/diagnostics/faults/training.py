"""Faults of the training itself: its rate, what float32 makes of it, what nobody sees."""

from typing import Any, Callable, Dict, Tuple

import numpy as np

from diagnostics import data, models, running
from diagnostics.data import Batch
from diagnostics.faults.fault import Fault, in_batch, row_of
from diagnostics.recipes import LOSSES, MEANS, OPTIMIZERS, Recipe, one_hot, planted
from tf1xent._tf import tf

RATE, COLLAPSE, HIDDEN = "learning rate", "float32 collapse", "NaN hidden"
# A rate may kill a net instead of making it infinite: longer than what counts as lasting.
_LONG = 130
_TOO_HIGH = {"SGD": 1e2, "Momentum": 1e2, "Adam": 1e1}


# --- Learning rate --------------------------------------------------------------------------------


def _squared(logits: Any, labels: Any) -> Any:
    return tf.reduce_sum(tf.square(logits - one_hot(labels)), axis=1)


def _high(recipe: Recipe) -> float:
    """Returns a rate; where nothing came of a lower one, of a loss whose gradient has no bound."""
    if recipe.strength > 1 or recipe.rng.randint(2):
        recipe.losses = _squared
    if recipe.strength > 1:
        recipe.optimizer = OPTIMIZERS["SGD"]
    drawn = 10.0 ** recipe.rng.uniform(0, 2)
    return float(_TOO_HIGH[recipe.plan.optimizer] * drawn * recipe.strength)


def _constant(recipe: Recipe) -> None:
    high = _high(recipe)
    recipe.rate, recipe.steps = (lambda step: high), _LONG


def _from_a_step_on(recipe: Recipe) -> None:
    high, when, healthy = _high(recipe), recipe.plan.when, recipe.plan.rate
    recipe.rate = lambda step: tf.where(step >= when - 1, tf.constant(high), tf.constant(healthy))
    recipe.steps = when + _LONG


def _growing(recipe: Recipe) -> None:
    """The base of a decay is above 1."""
    base, healthy = 2.0 + 2 * recipe.rng.rand() * recipe.strength, recipe.plan.rate
    recipe.rate = lambda step: healthy * tf.pow(base, tf.cast(step, tf.float32))
    recipe.steps = _LONG


def _summed(recipe: Recipe) -> None:
    """Gradients of many workers are summed, and the rate is not divided by their number."""
    factor = 1e4 * recipe.strength
    if recipe.strength > 1:
        recipe.losses = _squared
    optimizer = {"Adam": "SGD"}.get(recipe.plan.optimizer, recipe.plan.optimizer)
    recipe.optimizer = OPTIMIZERS[optimizer]
    recipe.rate = lambda step: 0.1
    recipe.gradients = lambda pairs: [(g * factor, v) for g, v in pairs]
    recipe.steps = _LONG


# --- Collapse in float32 --------------------------------------------------------------------------


def _few_rows(recipe: Recipe) -> None:
    """Every batch is the same few rows, which a model can learn by heart."""
    batch = data.draw(recipe.plan.model, np.random.RandomState(recipe.plan.seed), 200)
    labels = batch.labels if batch.labels.ndim == 1 else batch.labels[:, 0]
    count = 2 if recipe.plan.model == "tagger" else recipe.plan.seed % 3 + 2
    chosen = [int(np.argmax(labels == c)) for c in range(count)]
    batch = Batch(*(array[chosen] for array in batch))
    if recipe.plan.model == "tagger":
        # The first lines of two images may be the same; at the last one the whole image is known.
        weights = np.zeros_like(batch.weights)
        weights[:, -1] = 1
        full = np.repeat(labels[chosen][:, np.newaxis], data.SIDE, 1).astype(np.int32)
        batch = Batch(batch.features, full, weights)
    recipe.change_batch = lambda step, _: batch


def _learnt(recipe: Recipe) -> Tuple[Dict[str, np.ndarray], float]:
    """Returns values with which all rows are right, and the least difference of logits."""
    teacher = Recipe(recipe.plan._replace(variables="resource"))
    teacher.change_batch, teacher.losses = recipe.change_batch, LOSSES["log_softmax"]
    teacher.optimizer, teacher.rate, teacher.steps = tf.train.AdamOptimizer, lambda step: 0.02, 150
    teacher.mean = MEANS["weighted"]
    with running.graph_of(teacher):
        fed = running.placeholders(recipe.plan.model)
        built = models.build(teacher, *fed)
        batches = teacher.batches()
        with running.session() as session:
            session.run(tf.global_variables_initializer())
            for batch in batches:
                loss = session.run([built.loss, built.update], fed.of(batch))[0]
            values = session.run(built.variables)
    most = float(loss) * batches[0].weights.sum()
    return values, -float(np.log(np.expm1(most)))


def _collapse(losses: str, by_weights: bool) -> Callable[[Recipe], None]:
    """All rows are right by 25 to 60 in their logits: exp(-25) is nothing beside 1 in float32."""

    def plant(recipe: Recipe) -> None:
        recipe.losses, recipe.steps = LOSSES[losses], 110
        recipe.place = "loss|xent|Softmax|softmax"
        _few_rows(recipe)
        values, least = _learnt(recipe)
        factor = np.float32(recipe.rng.uniform(25, 60) / max(least, 0.1) * recipe.strength)
        if by_weights:
            for name in values:
                values[name] = values[name] * (factor if name.startswith("output") else 1)
        else:
            recipe.logits = lambda logits: logits * factor
        recipe.change_values = lambda initial: initial.update(values)

    return plant


# --- Hidden ---------------------------------------------------------------------------------------


def _darker_than_black(recipe: Recipe) -> None:
    """One batch holds finite numbers for which the features have no real value."""

    def change(batch: Batch) -> Batch:
        features = batch.features.copy()
        row = row_of(recipe, batch)
        flat = features[row].reshape(-1)
        flat[recipe.plan.seed * 5 % flat.size] = -1.5
        return batch._replace(features=features)

    in_batch(recipe, change)


# By a number that the seed chooses: functions that have no value at -1.5.
_NO_VALUE: Tuple[Callable[[Any], Any], ...] = (
    tf.sqrt,
    lambda x: tf.pow(x, 0.7),
    lambda x: 1.5 - tf.acos(x * 0.99),
)


def _hide(recipe: Recipe) -> None:
    recipe.features = planted(_NO_VALUE[recipe.plan.seed % len(_NO_VALUE)])
    recipe.steps = recipe.plan.when + 60
    _darker_than_black(recipe)


def _by_relu(recipe: Recipe) -> None:
    recipe.activation = tf.nn.relu
    _hide(recipe)


def _positive(h: Any) -> Any:
    return tf.where(h > 0, h, tf.zeros_like(h))


def _by_where(recipe: Recipe) -> None:
    if recipe.plan.model == "tagger":
        recipe.between = _positive
    else:
        recipe.activation = _positive
    _hide(recipe)


def _by_pool(recipe: Recipe) -> None:
    recipe.activation = lambda h: h  # relu stands after the pool
    recipe.between = tf.nn.relu
    _hide(recipe)


def _in_loss(recipe: Recipe) -> None:
    losses = recipe.losses

    def without(logits: Any, labels: Any) -> Any:
        found = losses(logits, labels)
        return tf.where(tf.is_nan(found), tf.zeros_like(found), found)

    recipe.losses = without
    _hide(recipe)


FAULTS: Tuple[Fault, ...] = (
    Fault(RATE, "far too high", "1e2 to 1e5, constant", "", _constant),
    Fault(RATE, "from a step on", "a schedule jumps to it", "", _from_a_step_on, keras=False),
    Fault(RATE, "growing", "the decay's base is above 1", "", _growing, keras=False),
    Fault(RATE, "gradients summed", "the update is 1e4 times too large", "", _summed, keras=False),
    Fault(
        COLLAPSE,
        "sharp logits",
        "learnt by heart, at a low temperature: the stock op's loss and gradient are 0",
        "",
        _collapse("sparse", by_weights=False),
        shows="zero",
    ),
    Fault(
        COLLAPSE,
        "sharp logits, dense",
        "learnt by heart, at a low temperature: the stock op's loss and gradient are 0",
        "",
        _collapse("dense", by_weights=False),
        shows="zero",
    ),
    Fault(
        COLLAPSE,
        "long training",
        "learnt by heart, and weights as after a very long training: loss and gradient are 0",
        "",
        _collapse("sparse", by_weights=True),
        shows="zero",
    ),
    Fault(
        COLLAPSE,
        "long training, log_softmax",
        "learnt by heart, and weights as after a very long training: loss and gradient are 0",
        "",
        _collapse("log_softmax", by_weights=True),
        shows="zero",
    ),
    Fault(
        HIDDEN,
        "relu(x w + b)",
        "sqrt, power or acos of a number without one; TensorFlow's fused relu makes it 0",
        "",
        _by_relu,
        ("MLP",),
        keras=False,
        needs="relu hides NaN",
    ),
    Fault(
        HIDDEN,
        "relu written as a where",
        "sqrt, power or acos of a number without one; NaN > 0 is false",
        "",
        _by_where,
        keras=False,
    ),
    Fault(
        HIDDEN,
        "relu after max_pool",
        "sqrt, power or acos of a number without one; max_pool makes it -3.4e38, relu 0",
        "",
        _by_pool,
        ("CNN",),
        keras=False,
    ),
    Fault(
        HIDDEN,
        "where over the losses",
        "sqrt, power or acos of a number without one; NaN losses are counted as 0",
        "",
        _in_loss,
        keras=False,
    ),
)
