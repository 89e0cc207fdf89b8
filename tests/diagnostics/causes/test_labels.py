"""Labels that name no class, are cut off, or are no probabilities; and what only looks like it."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.diagnostics.causes.digits import cause_of, diagnosed


def sparse(model):
    return tf.losses.sparse_softmax_cross_entropy(model.y, model.logits)


def dense(model):
    losses = tf.nn.softmax_cross_entropy_with_logits_v2(labels=model.one_hot, logits=model.logits)
    return tf.reduce_sum(losses * model.mask) / tf.reduce_sum(model.mask)


def by_hand(model):
    logs = tf.log(tf.clip_by_value(tf.nn.softmax(model.logits), 1e-10, 1.0))
    return -tf.reduce_mean(tf.reduce_sum(model.one_hot * logs, 1))


def label(value, masked=False):
    def spoil(model, images, labels):
        labels[4] = value
        weights = np.ones(len(images), np.float32)
        weights[4] = not masked
        return {model.mask: weights}

    return spoil


@pytest.mark.parametrize("value, patched", [(10, False), (-1, True)])
def test_the_error_of_a_sparse_loss_is_traced_to_its_row(value, patched):
    if patched:
        with tf1xent.patched():
            found = diagnosed(sparse, label(value)).findings[0]
    else:
        found = diagnosed(sparse, label(value)).findings[0]
    assert found.cause == "labels out of range" and (found.tensor, found.row) == ("y:0", 4)
    assert found.numbers["label"] == value and found.numbers["num_classes"] == 10
    assert "test_labels.py" in found.line
    assert found.trial.helped and "row 4" in found.trial.change


@pytest.mark.lengthy
def test_an_index_of_a_gather_is_a_label_too():
    def loss(model):
        logs = tf.nn.log_softmax(model.logits)
        rows = tf.range(tf.shape(model.y, out_type=tf.int64)[0])
        return -tf.reduce_mean(tf.gather_nd(logs, tf.stack([rows, model.y], 1)))

    found = diagnosed(loss, label(10)).findings[0]
    assert found.cause == "labels out of range" and found.row == 4
    assert found.numbers["label"] == 10 and found.trial.helped


@pytest.mark.parametrize("loss", [dense, by_hand])
def test_one_hot_makes_a_row_of_zeros_without_an_error(loss):
    found = diagnosed(loss, label(10)).findings[0]
    assert found.cause == "labels out of range" and (found.tensor, found.row) == ("y:0", 4)
    assert found.op_type == "OneHot" and found.trial.helped
    assert ("but a gradient" in found.what) == (loss is dense)


@pytest.mark.lengthy
def test_the_log_of_a_row_of_zeros():
    def loss(model):
        p = tf.reduce_sum(model.one_hot * tf.nn.softmax(model.logits), 1)
        return -tf.reduce_mean(tf.log(p))

    found = diagnosed(loss, label(-1)).findings[0]
    assert found.cause == "labels out of range" and found.row == 4 and found.trial.helped


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "loss, spoil",
    [
        pytest.param(dense, label(10, masked=True), id="masked"),
        pytest.param(by_hand, label(-1), id="row of zeros that is meant"),
        pytest.param(by_hand, label(255), id="ignored"),
    ],
)
def test_padding_is_no_fault(loss, spoil):
    assert cause_of(loss, spoil) is None


def test_fractions_are_cut_off_without_a_word():
    found = diagnosed(sparse, lambda model, x, y: {model.y: y * 0.75}).findings[0]
    assert found.cause == "labels out of range" and "no integers" in found.what
    assert found.numbers["label"] == pytest.approx(0.75 * round(found.numbers["label"] / 0.75))


@pytest.mark.exhaustive
def test_floats_that_are_integers_are_none():
    assert cause_of(sparse, lambda model, x, y: {model.y: y.astype(np.float64)}) is None


@pytest.mark.exhaustive
def test_floats_cast_in_the_graph():
    def loss(model):
        labels = tf.cast(model.mask, tf.int32)
        return tf.losses.sparse_softmax_cross_entropy(labels, model.logits)

    spoil = lambda model, x, y: {model.mask: y / 9.0}  # noqa: E731
    assert diagnosed(loss, spoil).cause == "labels out of range"


@pytest.mark.lengthy
def test_binary_labels_outside_0_and_1_have_no_least_loss():
    def loss(model):
        labels = tf.tile(model.mask[:, tf.newaxis], [1, 10])
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=model.logits)
        return tf.reduce_mean(losses)

    def spoil(model, images, labels):
        return {model.mask: np.full(len(images), 255.0)}

    def change(values):
        values["logits/bias"] += 1e37

    found = diagnosed(loss, spoil, variables=change)
    assert found.cause == "labels out of range" and "no least value" in found.findings[0].what


def test_classes_as_targets_of_a_binary_loss_by_hand():
    """The log is of 0 because the loss has no least value."""

    def loss(model):
        target, p = model.mask, tf.nn.sigmoid(model.logits[:, 0])
        return -tf.reduce_mean(target * tf.log(p) + (1 - target) * tf.log(1 - p))

    def saturated(values):
        values["logits/bias"] += 100

    assert cause_of(loss, variables=saturated) == "log of 0"
    spoil = lambda model, x, y: {model.mask: y}  # noqa: E731
    assert cause_of(loss, spoil, variables=saturated) == "labels out of range"


@pytest.mark.exhaustive
def test_rows_that_do_not_sum_to_1():
    def loss(model):
        labels = model.one_hot * model.mask[:, tf.newaxis]
        return tf.reduce_mean(
            tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=model.logits)
        )

    spoil = lambda model, x, y: {model.mask: np.full(len(x), 3.0)}  # noqa: E731
    found = diagnosed(loss, spoil).findings[0]
    assert found.cause == "labels out of range" and found.numbers["sum"] == pytest.approx(3)
    with tf1xent.patched():
        assert cause_of(loss, spoil) is None
