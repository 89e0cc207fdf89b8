"""Faults in what the model stores: restored, loaded and frozen values."""

from typing import Any, Callable, Dict, List, Tuple

import numpy as np

from diagnostics.faults.fault import Fault
from diagnostics.recipes import Recipe, planted
from tf1xent._tf import tf

PARAMETERS, UNCHANGED = "parameters not finite", "parameters do not change"
# Longer than the 50 steps for which a state must last to count as one.
LONG = 110


def _initial(value: float, last: str) -> Callable[[Recipe], None]:
    def plant(recipe: Recipe) -> None:
        def change(values: Dict[str, np.ndarray]) -> None:
            names = [name for name in values if name.endswith(last)]
            name = names[recipe.plan.seed % len(names)]
            flat = values[name].reshape(-1)
            flat[recipe.plan.seed * 13 % flat.size] = value
            recipe.place = f"^{name}"

        recipe.change_values, recipe.steps = change, 5

    return plant


def _assigned(recipe: Recipe) -> None:
    """A loop averages the weights of no runs at all, and loads that."""

    def load(session: Any, step: int, built: Any) -> None:
        if step == recipe.plan.when:
            name = sorted(built.variables)[recipe.plan.seed % len(built.variables)]
            recipe.place = f"^{name}"
            for part in _parts(built.variables[name]):
                part.load(np.full(part.shape.as_list(), np.nan, np.float32), session)

    recipe.between_steps = load


def _slot(recipe: Recipe) -> None:
    """A checkpoint holds NaN in what the optimizer remembers of a variable."""
    recipe.optimizer = lambda rate: tf.train.AdamOptimizer(rate)
    recipe.rate = lambda step: 0.003
    recipe.place = "Adam"

    def load(session: Any, step: int, built: Any) -> None:
        if step == 1:
            variables = tf.trainable_variables()
            variable = variables[recipe.plan.seed % len(variables)]
            slot = built.optimizer.get_slot(variable, "mv"[recipe.plan.seed // 2 % 2])
            value = np.zeros(slot.shape.as_list(), np.float32)
            value.reshape(-1)[0] = np.nan
            slot.load(value, session)

    recipe.between_steps = load


def _moving_variance(recipe: Recipe) -> None:
    """The statistics of a frozen batch norm are read from a file, with a NaN in it."""
    recipe.steps = 5
    recipe.place = "moving"

    def normalise(hidden: Any) -> Any:
        width = int(hidden.shape[-1])
        values = np.ones([2, width], np.float32)
        values[0] = 0
        values[1, recipe.plan.seed % width] = np.nan
        moving = tf.get_variable("moving", initializer=values, trainable=False)
        return (hidden - moving[0]) * tf.rsqrt(moving[1] + 1e-3)

    recipe.between = normalise


def _parts(variable: Any) -> List[Any]:
    return list(variable) if hasattr(variable, "_get_variable_list") else [variable]


def _stop_gradient(recipe: Recipe) -> None:
    recipe.between, recipe.steps = planted(tf.stop_gradient), LONG
    recipe.place = _HIDDEN


def _integers(recipe: Recipe) -> None:
    recipe.between = planted(lambda h: tf.cast(tf.cast(h * 8, tf.int32), tf.float32) / 8)
    recipe.place, recipe.steps = _HIDDEN, LONG


def _left_out(recipe: Recipe) -> None:
    kept = "output" if recipe.plan.seed % 3 else "hidden|conv|cell"
    recipe.trained = lambda name: name.split("/")[0].rstrip("0123456789") in kept.split("|")
    recipe.place, recipe.steps = (_HIDDEN if kept == "output" else "output"), LONG


def _rate_of_zero(recipe: Recipe) -> None:
    start = recipe.plan.when if recipe.plan.seed % 2 else 1
    healthy = recipe.plan.rate
    recipe.rate = lambda step: tf.where(step >= start - 1, tf.constant(0.0), tf.constant(healthy))
    recipe.optimizer = lambda rate: tf.train.GradientDescentOptimizer(rate)
    recipe.place, recipe.steps = ".", LONG + start


def _dead(recipe: Recipe) -> None:
    recipe.activation, recipe.steps = tf.nn.relu, LONG
    recipe.place = _HIDDEN

    def change(values: Dict[str, np.ndarray]) -> None:
        for name in values:
            if name.endswith("bias") and not name.startswith("output"):
                values[name][:] = -(10.0 ** (1 + recipe.plan.seed % 3)) * recipe.strength

    recipe.change_values = change


def _saturated(recipe: Recipe) -> None:
    recipe.activation, recipe.steps = tf.nn.tanh, LONG
    recipe.place = _HIDDEN
    recipe.change_batch = lambda step, batch: batch._replace(
        features=(batch.features + 0.1) * np.float32(65535 * recipe.strength)
    )


def _not_run(recipe: Recipe) -> None:
    recipe.runs_update, recipe.steps, recipe.place = False, LONG, "."


def _clipped(recipe: Recipe) -> None:
    recipe.gradients = lambda pairs: [(tf.clip_by_value(g, 0.0, 0.0), v) for g, v in pairs]
    recipe.steps, recipe.place = LONG, "."


_HIDDEN = "^(hidden|conv|cell)|planted"

FAULTS: Tuple[Fault, ...] = (
    Fault(
        PARAMETERS,
        "NaN in a restored kernel",
        "a variable begins with a NaN, as from a broken file",
        "",
        _initial(np.nan, "kernel"),
    ),
    Fault(
        PARAMETERS,
        "inf in a restored kernel",
        "a variable begins with an inf",
        "",
        _initial(np.inf, "kernel"),
    ),
    Fault(PARAMETERS, "NaN in a bias", "a variable begins with NaN", "", _initial(np.nan, "bias")),
    Fault(
        PARAMETERS,
        "NaN loaded between steps",
        "the loop loads the mean of no weights",
        "",
        _assigned,
        keras=False,
    ),
    Fault(
        PARAMETERS,
        "NaN in Adam's moments",
        "a restored slot is NaN; loss and gradient are sound",
        "",
        _slot,
        keras=False,
    ),
    Fault(
        PARAMETERS,
        "NaN moving variance",
        "a variable that is not trained is NaN",
        "",
        _moving_variance,
        keras=False,
    ),
    Fault(UNCHANGED, "stop_gradient", "no gradient passes to the first layers", "", _stop_gradient),
    Fault(UNCHANGED, "cast to integers", "no gradient passes a cast", "", _integers),
    Fault(
        UNCHANGED,
        "not in var_list",
        "some trainable variables are not given to the optimizer",
        "",
        _left_out,
        keras=False,
    ),
    Fault(UNCHANGED, "rate 0", "the schedule gives a rate of 0", "", _rate_of_zero, keras=False),
    Fault(UNCHANGED, "dead relu", "biases so low that no unit is ever above 0", "", _dead),
    Fault(
        UNCHANGED,
        "saturated tanh",
        "raw pixels of 16 bits: every hidden unit is 1 or -1, its slope 0",
        "",
        _saturated,
        ("MLP", "CNN"),
    ),
    Fault(
        UNCHANGED,
        "train op not run",
        "the loop fetches the loss only",
        "",
        _not_run,
        keras=False,
        estimator=False,
    ),
    Fault(
        UNCHANGED, "clipped to 0", "each gradient is clipped to [0, 0]", "", _clipped, keras=False
    ),
)
