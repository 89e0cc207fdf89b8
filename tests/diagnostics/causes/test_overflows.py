"""Numbers above the range of float32, made of finite ones."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.causes.digits import cause_of, diagnosed


def mean(model):
    return tf.reduce_mean(model.losses())


def softmax_by_hand(model):
    exponentials = tf.exp(model.logits)
    p = exponentials / tf.reduce_sum(exponentials, 1, keepdims=True)
    return -tf.reduce_mean(tf.reduce_sum(model.one_hot * tf.log(p + 1e-8), 1))


def shifted_softmax_by_hand(model):
    exponentials = tf.exp(model.logits - tf.reduce_max(model.logits, 1, keepdims=True))
    p = exponentials / tf.reduce_sum(exponentials, 1, keepdims=True)
    return -tf.reduce_mean(tf.reduce_sum(model.one_hot * tf.log(p + 1e-8), 1))


def scaled(factor):
    def spoil(model, images, labels):
        images[6] *= factor

    return spoil


def test_a_softmax_without_its_maximum():
    finding = diagnosed(softmax_by_hand, scaled(2e4)).findings[0]
    assert finding.cause == "overflow" and (finding.op_type, finding.row) == ("Exp", 6)
    assert "above 88" in finding.what and "in softmax_by_hand" in finding.line
    assert "maximum is subtracted" in finding.trial.change and finding.trial.helped


@pytest.mark.exhaustive
def test_with_its_maximum_it_is_no_fault():
    assert cause_of(shifted_softmax_by_hand, scaled(2e4)) not in ("overflow", "0/0", "log of 0")


@pytest.mark.lengthy
def test_exponentials_that_are_all_0():
    def loss(model):
        model.logits -= 200 * (1 - model.mask[:, tf.newaxis])
        return softmax_by_hand(model)

    def spoil(model, images, labels):
        weights = np.ones(len(images), np.float32)
        weights[3] = 0
        return {model.mask: weights}

    finding = diagnosed(loss, spoil).findings[0]
    assert finding.cause == "overflow" and finding.row == 3 and "is 0/0" in finding.what
    assert finding.trial.helped


def squares(model):
    return tf.square(model.hidden)


def products(model):
    return tf.matmul(model.x, tf.fill([64, 3], 1e3))


@pytest.mark.parametrize("term, op", [(squares, "Square"), (products, "MatMul")])
def test_activations(term, op):
    def loss(model):
        return mean(model) + 1e-6 * tf.reduce_mean(term(model))

    finding = diagnosed(loss, scaled(1e37), steps=0).findings[0]
    assert finding.cause == "overflow" and finding.op_type == op and finding.row == 6
    assert "3.4e+38" in finding.what and finding.trial.helped
    assert finding.numbers["largest_of_the_data"] >= 1e36


def test_a_power_of_numbers_of_which_some_are_0():
    def loss(model):
        return mean(model) + 1e-6 * tf.reduce_mean(tf.pow(model.hidden, 16.0))

    finding = diagnosed(loss, scaled(1e4), steps=0).findings[0]
    assert finding.cause == "overflow" and finding.op_type == "Pow" and finding.row == 6
    assert finding.trial.helped


@pytest.mark.lengthy
def test_a_sigmoid_by_hand_has_a_bad_gradient():
    """1 / (1 + inf) is 0, and its derivative inf / inf ** 2."""

    def loss(model):
        return mean(model) + 1e-3 * tf.reduce_mean(1 / (1 + tf.exp(-model.logits)))

    finding = diagnosed(loss, scaled(2e4)).findings[0]
    assert finding.cause == "overflow" and finding.op_type == "Exp" and finding.trial.helped
