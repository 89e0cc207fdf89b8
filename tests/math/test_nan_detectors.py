"""NaN detectors look at every tensor of a graph: none of ours may be infinite or NaN.

`tf.add_check_numerics_ops` refuses graphs with v1 loops, so that chunked losses are looked at with
as many chunks as they have, one after another, and by fetching every tensor outside of loops.
"""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.support.option_cases import unoptimised
from tf1xent import losses, metrics, nn

RANDOM = np.random.RandomState(0)
LOGITS = RANDOM.randn(4, 5).astype(np.float32)
LOGITS[0, 0] = 40.0  # confident and right
LABELS = np.array([0, 1, 4, 2])
SOFT_LABELS = np.abs(RANDOM.randn(4, 5)).astype(np.float32)
CLASS_MASK = np.array([True, True, False, True, True])

OPTIONS = {
    "plain": {},
    "mask": {"mask": [True, False, True, True]},
    "weights": {"weights": [1.0, 0.0, 2.0, 0.5]},
    "class weights": {"class_weights": [0.0, 1.0, 2.0, 1.0, 0.5]},
    "smoothing": {"label_smoothing": 0.1},
    "smoothed classes": {"label_smoothing": 0.1, "class_weights": [0.0, 1.0, 2.0, 1.0, 0.5]},
    "class mask": {"class_mask": CLASS_MASK, "label_smoothing": 0.1, "mask": [True] * 3 + [False]},
    "z loss": {"z_loss": 1e-3},
    "temperature": {"temperature": 0.5, "softcap": 30.0},
    "focal": {"focal_gamma": 2.0},
    "focal classes": {
        "focal_gamma": 0.5,
        "label_smoothing": 0.1,
        "class_mask": CLASS_MASK[None],
        "mask": [True] * 3 + [False],
    },
}
SPARSE_OPTIONS = {
    "ignored": {"ignore_label": 2},
    "nan": {"invalid_labels": "nan"},
    "ignore": {"invalid_labels": "ignore", "label_smoothing": 0.1},
    "raise": {"invalid_labels": "raise"},
}


def _sparse(function, **options):
    return lambda x, _: function(labels=LABELS, logits=x, **options)


def _dense(function, **options):
    return lambda x, labels: function(labels=labels, logits=x, **options)


def _linear(x, _, **options):
    weights = tf.constant(np.eye(5, 7, dtype=np.float32))
    return losses.linear_softmax_cross_entropy(LABELS, x, weights, **options)


FUNCTIONS = {
    "sparse": _sparse(nn.sparse_softmax_cross_entropy_with_logits),
    "dense": _dense(nn.softmax_cross_entropy_with_logits_v2),
    "dense, labels fixed": _dense(nn.softmax_cross_entropy_with_logits),
    "probabilities": lambda x, labels: nn.softmax_cross_entropy_with_probabilities(
        labels, tf.nn.softmax(x), focal_gamma=0.5
    ),
    "sequence": lambda x, _: losses.sequence_loss(
        x[tf.newaxis], LABELS[np.newaxis], np.ones((1, 4), np.float32)
    ),
    "linear": lambda x, _: _linear(x, _, chunk_size=7, label_smoothing=0.1, z_loss=1e-3),
}
for _name, _options in {**OPTIONS, **SPARSE_OPTIONS}.items():
    FUNCTIONS["masked sparse, " + _name] = _sparse(
        nn.masked_sparse_softmax_cross_entropy_with_logits, **_options
    )
for _name, _options in OPTIONS.items():
    FUNCTIONS["masked dense, " + _name] = _dense(
        nn.masked_softmax_cross_entropy_with_logits, **_options
    )
# The loops of the one are large graphs; the dense function has the same options to the third.
TO_THE_SECOND = ["linear", *("masked sparse, " + name for name in OPTIONS)]
METRICS = [name for name in metrics.__all__ if "streaming" not in name]


def _derivatives(build, orders):
    """The loss and its derivatives in logits and labels, each along the logits themselves."""
    logits, labels = tf.constant(LOGITS), tf.constant(SOFT_LABELS * [1, 1, 0, 1, 1])
    labels = tf.cast(labels, tf.float32)
    found = [build(logits, labels)]
    for _ in range(orders):
        gradients = tf.gradients(found[-1], [logits, labels])
        found += [gradient for gradient in gradients[1:] if gradient is not None]
        found.append(gradients[0] * tf.constant(RANDOM.randn(4, 5).astype(np.float32)))
    return found


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_tensor_of_a_loss_is_infinite(name):
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        orders = _derivatives(FUNCTIONS[name], 2 if name in TO_THE_SECOND else 3)
        session.run([orders, tf.add_check_numerics_ops()])


@pytest.mark.parametrize("name", METRICS)
def test_no_tensor_of_a_metric_is_infinite(name):
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        arguments = {"k": 2} if name == "top_k_accuracy" else {}
        value = getattr(metrics, name)(LABELS, tf.constant(LOGITS), **arguments)
        session.run([value, tf.add_check_numerics_ops()])


@pytest.mark.exhaustive
def test_no_tensor_of_many_chunks_is_infinite():
    """Chunks that hold nothing but the label; the tensors outside of the loops over the chunks."""
    with tf.Graph().as_default() as graph, tf.Session(config=unoptimised()) as session:
        orders = _derivatives(lambda x, _: _linear(x, _, chunk_size=1), 2)
        session.run(orders)
        tensors = [
            output
            for op in graph.get_operations()
            if op._get_control_flow_context() is None and op.type not in ("Enter", "Exit", "Switch")
            for output in op.outputs
            if output.dtype in (tf.float32, tf.float64)
        ]
        for tensor, value in zip(tensors, session.run(tensors)):
            assert np.isfinite(value).all(), tensor.op


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_no_tensor_of_an_overridden_gradient_is_infinite(kind, order):
    stock = {
        "sparse": tf1xent.get_original("sparse_softmax_cross_entropy_with_logits"),
        "dense": tf1xent.get_original("softmax_cross_entropy_with_logits_v2"),
    }[kind]
    labels = LABELS if kind == "sparse" else SOFT_LABELS
    tf1xent.override_gradients()
    try:
        with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
            orders = _derivatives(lambda x, _: stock(labels=labels, logits=x), order)
            session.run([orders, tf.add_check_numerics_ops()])
    finally:
        tf1xent.restore_gradients()


@pytest.mark.parametrize("policy", [None, "nan", "ignore"])
def test_what_is_not_valid_is_still_nan_or_infinite(policy):
    """A label out of range is NaN by its policy; a label of a class that is left out, infinity."""
    labels = np.array([0, 2, 5, -1]) if policy else np.array([0, 2, 1, 1])
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        value = session.run(
            nn.masked_sparse_softmax_cross_entropy_with_logits(
                labels=labels,
                logits=tf.constant(LOGITS),
                class_mask=CLASS_MASK,
                invalid_labels=policy,
            )
        )
    assert np.isfinite(value[0]) and np.isposinf(value[1])
    if policy is None:
        assert np.isfinite(value[2:]).all()
    else:
        assert np.isnan(value[2:]).all() if policy == "nan" else not value[2:].any()
