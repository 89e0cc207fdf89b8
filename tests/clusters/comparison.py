"""Runs sharded cases in a cluster and in one process, and compares them with each other."""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.clusters import sharded_cases
from tests.support.option_cases import unoptimised

KINDS = ("value", "gradient", "product")


def results(cases, cluster):
    """What the cases compute: (in the cluster, in one process), a list of both by case."""
    with tf.Graph().as_default() as graph:
        built = [sharded_cases.sharded(case, cluster.devices) for case in cases]
        with tf.Session(cluster.targets[0], graph=graph, config=unoptimised()) as session:
            in_cluster = session.run(built)
    with tf.Graph().as_default() as graph:
        built = [sharded_cases.single(case) for case in cases]
        with tf.Session(graph=graph, config=unoptimised()) as session:
            alone = session.run(built)
    joined = []
    for case, (loss, *derivatives) in zip(cases, in_cluster):
        whole = [{n: case.joined(n, parts) for n, parts in d.items()} for d in derivatives]
        joined.append((loss, *whole))
    return list(zip(joined, alone))


class Errors:
    """The largest relative errors of each kind, and where they are.

    Of an array relative to its largest entry.
    """

    def __init__(self):
        self.largest = {kind: (0.0, None) for kind in KINDS}
        self.num_compared = 0

    def add(self, name, got, want):
        """Takes in (loss, gradient, product) of a case, compared with what they should be."""
        for kind, one, other in zip(KINDS, got, want):
            one, other = ({"": x} if not isinstance(x, dict) else x for x in (one, other))
            assert one.keys() == other.keys()
            for operand in one:
                error = _relative(one[operand], other[operand])
                self.num_compared += 1
                if not error <= self.largest[kind][0]:
                    self.largest[kind] = error, f"{operand} of {name}"

    def check(self, limit):
        """AssertionError where an error is above the limit."""
        assert self.num_compared
        faults = {kind: found for kind, found in self.largest.items() if not found[0] <= limit}
        assert not faults, faults


def _relative(got, want):
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return np.inf
    scale = np.max(np.abs(want), initial=0.0)
    error = float(np.max(np.abs(got - want), initial=0.0) / (scale or 1.0))
    return np.inf if np.isnan(error) else error
