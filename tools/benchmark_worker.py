"""One framework's sides of tools/benchmark.py, in a process that is kept alive and asked by pipe.

It reads requests, one JSON object a line, and answers each with one line:

    first of all  {"versions": {name: version}, "missing": {side: why it cannot be measured}}
    prepare       {"shape", "orders", "sides"}: makes inputs and what computes each order from them;
                  {order: {side: {"number": calls that fill a sample, "fingerprint", "way"} or
                  {"error"}}}
    sample        {"order", "side", "number"}: the milliseconds of one call
    memory        {"shape", "order", "side"}: bytes that a call's peak is above what was held before

Every framework gets the same numbers as inputs, and says by a fingerprint what it computed of them.
"""

import argparse
import collections
import contextlib
import functools
import importlib
import json
import os
import sys
from typing import Any, Dict

MODULES = {
    "tensorflow": "benchmark_tensorflow",
    "torch": "benchmark_torch",
    "jax": "benchmark_jax",
}
MEMORY_CALLS = 3

Inputs = collections.namedtuple("Inputs", "logits labels weights vector")
# sample(number): milliseconds of one call; fetch(): its results, in NumPy; way: how, where there
# are several ways of which the fastest is taken.
Computation = collections.namedtuple("Computation", "sample fetch way")


def make_inputs(shape, dense, np):
    """Returns the Inputs as NumPy arrays of float32, with labels of int64 if not `dense`."""
    generator = np.random.RandomState(0)
    batch_size, num_classes = shape

    def normal(*size):
        return generator.standard_normal(size).astype(np.float32)

    logits = 3 * normal(batch_size, num_classes)
    if dense:
        scores = np.exp(normal(batch_size, num_classes))
        labels = scores / scores.sum(axis=1, keepdims=True)
    else:
        labels = generator.randint(0, num_classes, size=batch_size).astype(np.int64)
    weights = np.abs(normal(batch_size))
    return Inputs(logits, labels, weights, normal(batch_size, num_classes))


def fingerprint(results, vector, np):
    """Returns one number for each result: a loss' sum, a matrix' product with the vector."""
    numbers = []
    for result in results:
        result = np.asarray(result).astype(np.float32)
        if result.ndim == 1:
            numbers.append(float(np.sum(result, dtype=np.float64)))
        else:
            numbers.append(float(np.sum(result * vector, dtype=np.float64)))
    return numbers


class Requests:
    """What the worker of one framework can be asked."""

    def __init__(self, settings):
        import measuring
        import numpy as np

        self._np, self._measuring = np, measuring
        self._settings = settings
        self._framework = importlib.import_module(MODULES[settings.framework])
        self._prepared = contextlib.ExitStack()
        self._computations: Dict[Any, Any] = {}

    def close(self):
        self._computations = {}
        self._prepared.close()

    def describe(self):
        return self._framework.describe(self._settings)

    def _make(self, shape, orders, sides):
        self.close()  # the inputs of the shape before
        inputs = make_inputs(shape, self._settings.dense, self._np)
        problem = argparse.Namespace(orders=orders, sides=sides, **vars(self._settings))
        made = self._framework.computations(inputs, problem)
        self._computations = self._prepared.enter_context(made)
        return inputs

    def prepare(self, shape, orders, sides):
        inputs = self._make(shape, orders, sides)
        answer: Dict[str, Dict[str, Any]] = {order: {} for order in orders}
        for (order, side), computation in self._computations.items():
            if isinstance(computation, str):
                answer[order][side] = {"error": computation}
                continue
            answer[order][side] = {
                "fingerprint": fingerprint(computation.fetch(), inputs.vector, self._np),
                "number": self._measuring.calls_to_fill_a_sample(computation.sample),
                "way": computation.way,
            }
        return answer

    def sample(self, order, side, number):
        return self._computations[order, side].sample(number)

    def memory(self, shape, order, side):
        self._make(shape, [order], [side])
        computation = self._computations[order, side]
        if isinstance(computation, str):
            return computation
        call = functools.partial(computation.sample, 1)
        return self._measuring.peak_above_held(call, MEMORY_CALLS)


def main():
    # Answers go where standard output went; what libraries print there goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    settings = argparse.Namespace(**json.loads(sys.argv[1]))
    if hasattr(os, "sched_setaffinity"):
        # As `taskset` does, before any library counts processors: nobody gets more than asked for.
        processors = sorted(os.sched_getaffinity(0))[: settings.threads]
        os.sched_setaffinity(0, processors)
    requests = Requests(settings)
    print(json.dumps(requests.describe()), file=answers, flush=True)
    try:
        for line in sys.stdin:
            request = json.loads(line)
            answer = getattr(requests, request.pop("do"))(**request)
            print(json.dumps(answer), file=answers, flush=True)
    finally:
        requests.close()


if __name__ == "__main__":
    main()
