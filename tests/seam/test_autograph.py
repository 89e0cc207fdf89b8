"""Calls in a tf.function: AutoGraph converts the program's lines, and none of the library's.

Converting a loss over shards took ten times as long as tracing it.
"""

import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tf1xent import losses, metrics, nn

LABELS = np.array([0, 2])
LOGITS = np.array([[1.0, -2.0, 0.5], [3.0, 0.25, -1.0]])
SHARES = np.full_like(LOGITS, 1 / 3)
CALLS = {
    nn.sparse_softmax_cross_entropy_with_logits: {"labels": LABELS, "logits": LOGITS},
    nn.softmax_cross_entropy_with_logits: {"labels": SHARES, "logits": LOGITS},
    nn.softmax_cross_entropy_with_logits_v2: {"labels": SHARES, "logits": LOGITS},
    nn.softmax_cross_entropy_with_probabilities: {"labels": SHARES, "probabilities": SHARES},
    losses.sparse_softmax_cross_entropy: {"labels": LABELS, "logits": LOGITS},
    losses.softmax_cross_entropy: {"onehot_labels": SHARES, "logits": LOGITS},
    losses.linear_softmax_cross_entropy: {
        "labels": LABELS,
        "inputs": LOGITS,
        "weights": np.eye(3),
    },
    losses.sequence_loss: {
        "logits": LOGITS[:, np.newaxis].astype(np.float32),
        "targets": LABELS[:, np.newaxis],
        "weights": np.ones([2, 1], np.float32),
    },
    losses.sharded_softmax_cross_entropy: {
        "labels": LABELS,
        "logits_shards": [LOGITS[:, :1], LOGITS[:, 1:]],
    },
    metrics.brier_score: {"labels": LABELS, "logits": LOGITS},
}
for function in (
    nn.masked_sparse_softmax_cross_entropy_with_logits,
    nn.weighted_sparse_softmax_cross_entropy_with_logits,
):
    CALLS[function] = {"labels": LABELS, "logits": LOGITS}


def converted():
    """The names of modules that AutoGraph has written."""
    return {name for name in sys.modules if name.startswith("__autograph_generated_file")}


@pytest.mark.skipif(not tf.executing_eagerly(), reason="TF 1.x converts no function by itself")
@pytest.mark.parametrize("function", CALLS, ids=lambda function: function.__name__)
def test_only_the_programs_own_lines_are_converted(function):
    before = converted()

    @tf.function
    def program():
        return function(**CALLS[function])

    loss = program()
    assert np.all(np.isfinite(loss))
    assert len(converted() - before) <= 1  # `program`, the first time
