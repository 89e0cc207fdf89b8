"""What runs in a benchmark's processes: a framework's computations, made once and sampled often.

pyperf has processes of its own, but runs one benchmark after the other; here all sides take turns,
so that whatever else the machine does meets all of them. So a process is kept alive, its state
stands in this module, and pyperf has the figures.
"""

import argparse
import contextlib
import importlib
import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import measuring

MODULES = {"torch": "reference_sides", "jax": "reference_sides"}
MEMORY_CALLS = 3


class Inputs(NamedTuple):
    """NumPy arrays of float32; labels of int64 unless they are soft."""

    logits: Any
    labels: Any
    weights: Any
    vector: Any


class Computation(NamedTuple):
    """`sample(number)`: seconds of a call; `fetch()`: its results; `way`: which of several."""

    sample: Callable[[int], float]
    fetch: Callable[[], List[Any]]
    way: Optional[str] = None


_settings: Any = None
_framework: Any = None
_prepared = contextlib.ExitStack()
_computations: Dict[Any, Any] = {}


def start(settings: Dict[str, Any]) -> Any:
    """Loads a framework; returns ({library: version}, {side: why it cannot be measured})."""
    global _settings, _framework
    if hasattr(os, "sched_setaffinity"):
        # As `taskset` does, before any library counts processors: nobody gets more than asked for.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: settings["threads"]])
    # Threads of libraries that read their number from here and not from their own options.
    os.environ["OMP_NUM_THREADS"] = str(settings["threads"])
    _settings = argparse.Namespace(**settings)
    _framework = importlib.import_module(MODULES.get(settings["framework"], "tensorflow_sides"))
    return _framework.describe(_settings)


def stop() -> None:
    """Closes what is open."""
    _prepared.close()


def make_inputs(shape: Sequence[int], dense: bool) -> Inputs:
    """Returns the same random Inputs in every process."""
    import numpy as np

    random = np.random.RandomState(0)
    logits, vector, scores = (random.standard_normal(shape).astype(np.float32) for _ in range(3))
    weights = np.abs(random.standard_normal(shape[0])).astype(np.float32)
    labels = random.randint(0, shape[1], size=shape[0]).astype(np.int64)
    if dense:
        labels = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return Inputs(3 * logits, labels, weights, vector)


def _make(shape: Sequence[int], orders: List[str], sides: List[str]) -> Inputs:
    global _computations
    _prepared.close()  # the inputs of the shape before
    inputs = make_inputs(shape, _settings.dense)
    problem = argparse.Namespace(orders=orders, sides=sides, **vars(_settings))
    _computations = _prepared.enter_context(_framework.computations(inputs, problem))
    return inputs


def prepare(shape: Sequence[int], orders: List[str], sides: List[str]) -> Dict[Any, Any]:
    """Makes inputs and computations; {(order, side): (calls a sample, fingerprint, way), or error}.

    A fingerprint is a number for each result: its sum, or its product with the vector.
    """
    import numpy as np

    inputs = _make(shape, orders, sides)
    answer: Dict[Any, Any] = {}
    for key, made in _computations.items():
        answer[key] = made
        if not isinstance(made, str):
            arrays = [np.asarray(result).astype(np.float64) for result in made.fetch()]
            products = [a if a.ndim == 1 else a * inputs.vector for a in arrays]
            number = measuring.calls_to_fill_a_sample(made.sample)
            answer[key] = number, [float(product.sum()) for product in products], made.way
    return answer


def sample(order: str, side: str, number: int) -> float:
    """Returns the seconds of one call."""
    return _computations[order, side].sample(number)


def memory(shape: Sequence[int], order: str, side: str) -> Any:
    """Returns the bytes of a call's peak above what was held before, or the error."""
    _make(shape, [order], [side])
    made = _computations[order, side]
    if isinstance(made, str):
        return made
    peak = measuring.Memory()
    for _ in range(MEMORY_CALLS):
        made.sample(1)
    return peak.above_held()
