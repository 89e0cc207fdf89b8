"""Prints the largest errors of every case of a loss in shards, of which the tests run a seventh.

    python -m tests.clusters

Takes some minutes on the TensorFlow at hand.
"""

import tensorflow.compat.v1 as tf

from tests.clusters.test_sharded_values import (
    LIMIT,
    compared,
    of_layouts,
    of_options,
    of_reductions,
)
from tests.support import clusters


def main():
    with clusters.started(worker=1, ps=2) as cluster:
        for cases in (of_options(), of_layouts(), of_reductions()):
            for begin in range(0, len(cases), 8):
                some = cases[begin : begin + 8]
                for name, errors in zip(("one process", "oracle"), compared(some, cluster)):
                    largest = {kind: f"{error:.1e}" for kind, (error, _) in errors.largest.items()}
                    print(tf.__version__, len(some), "cases against", name, largest, flush=True)
                    errors.check(LIMIT)


if __name__ == "__main__":
    main()
