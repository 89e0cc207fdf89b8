"""Draws the choices of a run from its seed."""

import zlib
from typing import List, Optional, Tuple

import numpy as np

from diagnostics import clean, faults
from diagnostics.names import CLEAN
from diagnostics.recipes import HEALTHY_RATES, LOSSES, MEANS, OPTIMIZERS, VARIABLES, Plan
from tf1xent._tf import tf


def choices(cause: str, model: str) -> List[faults.Fault]:
    """Returns the faults, or the healthy oddities, that a run of this cause can have here."""
    if cause == CLEAN:
        return [fault for fault in clean.TRAININGS if model in fault.models]
    found = faults.of_cause(cause).get(model, [])
    return [f for f in found if not f.needs or _hides_in_relu()]


def draw(cause: str, model: str, seed: int) -> Optional[Tuple[Plan, faults.Fault]]:
    """Returns a run's plan and fault, or None where no fault of this cause is possible."""
    possible = choices(cause, model)
    if not possible:
        return None
    fault = possible[seed % len(possible)]
    rng = np.random.RandomState(zlib.crc32(f"{cause}/{model}/{seed}".encode()))
    optimizer = _one(rng, list(OPTIMIZERS))
    low, high = HEALTHY_RATES[optimizer]
    plan = Plan(
        cause=cause,
        fault=fault.name,
        model=model,
        seed=seed,
        driver=_one(rng, _drivers(fault, model)),
        activation=_one(rng, ["relu", "tanh"]),
        optimizer=optimizer,
        variables=_one(rng, list(VARIABLES)),
        control_flow=_one(rng, ["v1", "v2"]),
        patch=bool(rng.randint(2)) and cause != "float32 collapse",
        loss=_one(rng, list(LOSSES)),
        mean=_one(rng, list(MEANS)),
        reads=_one(rng, ["feeds", "dataset"]),
        rows=int(rng.randint(6, 25)),
        hidden=int(rng.randint(8, 25)) if model != "CNN" else int(rng.randint(3, 9)),
        depth=int(rng.randint(1, 3)),
        rate=float(np.exp(rng.uniform(np.log(low), np.log(high)))),
        when=int(rng.randint(1, 41)),
    )
    return plan, fault


def _one(rng: np.random.RandomState, names: List[str]) -> str:
    return names[rng.randint(len(names))]


def _drivers(fault: faults.Fault, model: str) -> List[str]:
    found = ["diagnose", "session", "monitored"]
    if hasattr(tf, "estimator"):
        found += ["estimator"] if fault.estimator else []
        found += ["keras"] if fault.keras and model != "tagger" else []
    return found


_HIDING: List[bool] = []


def _hides_in_relu() -> bool:
    """Tells whether relu(x w + b) of a NaN is 0 in this TensorFlow, on this machine."""
    if not _HIDING:
        with tf.Graph().as_default(), tf.Session() as session:
            x = tf.placeholder(tf.float32, [None, 3])
            y = tf.nn.relu(tf.nn.bias_add(tf.matmul(x, tf.ones([3, 3])), tf.ones([3])))
            _HIDING.append(bool(np.isfinite(session.run(y, {x: np.full([2, 3], np.nan)})).all()))
    return _HIDING[0]
