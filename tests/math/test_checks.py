"""Bad input: refused as TensorFlow refuses it, as early as it can be known."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tf1xent import nn

SPARSE = "sparse_softmax_cross_entropy_with_logits"
STOPPED = "softmax_cross_entropy_with_logits"
DENSE = "softmax_cross_entropy_with_logits_v2"

MATRIX = [[1.0, 2.0], [3.0, 4.0]]

# function, arguments: each refused by TensorFlow when the graph is built
REFUSED = [
    (SPARSE, {"labels": [0, 1], "logits": [[1, 2], [3, 4]]}),
    (SPARSE, {"labels": [0.0, 1.0], "logits": MATRIX}),
    (SPARSE, {"labels": np.array([0, 1], np.uint8), "logits": MATRIX}),
    (SPARSE, {"labels": [[0, 1]], "logits": MATRIX}),
    (SPARSE, {"labels": [0, 1, 1], "logits": MATRIX}),
    (SPARSE, {"labels": [], "logits": MATRIX}),
    (SPARSE, {"labels": 0, "logits": 1.0}),
    (SPARSE, {"labels": None, "logits": MATRIX}),
    (SPARSE, {"labels": [0, 1], "logits": None}),
    (SPARSE, {"labels": [0, 1], "logits": np.zeros([2, 2], np.complex64)}),
    (STOPPED, {"labels": MATRIX, "logits": [[1, 2], [3, 4]]}),
    (STOPPED, {"labels": None, "logits": MATRIX}),
    (STOPPED, {"labels": MATRIX, "logits": MATRIX, "dim": 2}),
    (DENSE, {"labels": MATRIX, "logits": [[1, 2], [3, 4]]}),
    (DENSE, {"labels": [[1.0, 2.0, 3.0]], "logits": MATRIX}),
    (DENSE, {"labels": MATRIX, "logits": None}),
    (DENSE, {"labels": MATRIX, "logits": MATRIX, "axis": 2}),
    (DENSE, {"labels": MATRIX, "logits": MATRIX, "axis": 1, "dim": 1}),
    (DENSE, {"labels": MATRIX, "logits": MATRIX, "axes": 1}),
]


def _error(function, arguments):
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011 - which one is what is compared
        with tf.Graph().as_default():
            function(**arguments)
    return caught.value


@pytest.mark.parametrize("name, arguments", REFUSED)
def test_refused_with_the_type_of_tensorflows_error(name, arguments):
    stock = _error(tf1xent.get_original(name), arguments)
    ours = _error(getattr(nn, name), arguments)
    assert type(ours) is type(stock)
    with tf1xent.patched():
        patched = _error(getattr(tf.nn, name), arguments)
    assert type(patched) is type(stock)


@pytest.mark.parametrize("name, arguments", REFUSED[:6])
def test_refused_in_the_words_of_the_tensorflow_at_hand(name, arguments):
    stock = str(_error(tf1xent.get_original(name), arguments))
    assert str(_error(getattr(nn, name), arguments)) == stock


def _run_error(name, labels, logits, labels_shape, logits_shape, label_dtype=tf.int32):
    with tf.Graph().as_default(), tf.Session() as session:
        labels_in = tf.placeholder(label_dtype, labels_shape)
        logits_in = tf.placeholder(tf.float32, logits_shape)
        loss = getattr(nn, name)(labels=labels_in, logits=logits_in)
        (gradient,) = tf.gradients(loss, logits_in)
        messages = []
        for tensor in (loss, gradient):
            with pytest.raises(tf.errors.InvalidArgumentError) as caught:
                session.run(tensor, {labels_in: labels, logits_in: logits})
            messages.append(str(caught.value))
        return messages


@pytest.mark.parametrize("num_classes", [4, 100])
@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
@pytest.mark.parametrize("shape", [[None], [3]])
def test_a_label_out_of_range_is_named_with_the_range(num_classes, dtype, shape):
    bad_labels = [num_classes, -1] + ([2**32 + 1] if dtype == tf.int64 else [])
    for bad in bad_labels:
        logits = np.zeros([3, num_classes], np.float32)
        for message in _run_error(
            SPARSE, [0, bad, 1], logits, shape, [shape[0], num_classes], dtype
        ):
            assert f"Received a label value of {bad} which is outside the valid range of" in message
            assert f"[0, {num_classes})" in message


def test_shapes_that_only_the_run_can_tell():
    logits = np.zeros([3, 4], np.float32)
    for message in _run_error(SPARSE, [0, 1], logits, [None], [None, 4]):
        assert "logits and labels must have the same first dimension" in message
    for message in _run_error(SPARSE, [[0], [1], [2]], logits, None, [None, 4]):
        assert "labels must be 1-D" in message
    _run_error(SPARSE, [[0, 1], [0, 1]], np.zeros([2, 3, 4]), None, None)
    _run_error(SPARSE, [0, 1, 2, 3, 0, 1], np.zeros([2, 3, 4]), None, None)
    _run_error(DENSE, np.zeros([2, 3]), np.zeros([2, 4]), None, None, tf.float32)


@pytest.mark.parametrize("batch_size", [0, 2])
def test_no_classes_is_an_error_of_the_run(batch_size):
    logits = np.zeros([batch_size, 0], np.float32)
    for message in _run_error(SPARSE, [0] * batch_size, logits, [None], [None, None]):
        assert "Must have at least one class" in message


def test_static_shapes_that_cannot_fit_are_refused_before_the_run():
    with tf.Graph().as_default():
        logits = tf.placeholder(tf.float32, [None, 5, 4])
        with pytest.raises(ValueError, match="softmax_cross_entropy_with_logits.*labels"):
            nn.sparse_softmax_cross_entropy_with_logits(
                labels=tf.placeholder(tf.int32, [2, 3]), logits=logits
            )


@pytest.mark.parametrize("labels", [[1], [[1], [0]], 1])
def test_the_runs_checks_survive_constant_folding(labels):
    # Logits that are constants leave nothing of the check to the run but the labels.
    with tf.Graph().as_default(), tf.Session() as session:
        fed = tf.placeholder(tf.int32)
        logits = tf.constant([[7.0, 1.0], [0.0, 1.0]])
        loss = nn.sparse_softmax_cross_entropy_with_logits(labels=fed, logits=logits)
        with pytest.raises(tf.errors.InvalidArgumentError, match="labels must be 1-D|dimension"):
            session.run(loss, {fed: labels})
