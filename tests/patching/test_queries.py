"""is_patched, get_original and status."""

import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.support.bindings import (
    STOCK,
)
from tests.support.loss_graph import NAMES, SPARSE

pytestmark = pytest.mark.usefixtures("all_restored")


@pytest.mark.parametrize("name", NAMES)
def test_is_patched(name):
    assert tf1xent.is_patched(name) is False and tf1xent.is_patched() is False
    with tf1xent.patched():
        assert tf1xent.is_patched(name) is True and tf1xent.is_patched() is True
    assert tf1xent.is_patched(name) is False


@pytest.mark.parametrize("name", NAMES)
def test_get_original(name):
    original = getattr(tf.nn, name)
    assert tf1xent.get_original(name) is original
    with tf1xent.patched():
        assert tf1xent.get_original(name) is original
        assert getattr(tf.nn, name) is not original


@pytest.mark.parametrize("query", [tf1xent.is_patched, tf1xent.get_original])
@pytest.mark.parametrize("name", ["relu", "", 3])
def test_unknown_names(query, name):
    with pytest.raises(ValueError, match="`name` must be one of .*sparse_softmax"):
        query(name)


def test_status():
    status = tf1xent.status()
    version = getattr(tf, "VERSION", None) or tf.version.VERSION
    assert status.tensorflow == version
    assert status.patched is False and status.gradients_overridden is False
    assert status.bindings == []
    tf1xent.patch()
    status = tf1xent.status()
    assert status.patched is True and status.gradients_overridden is True
    assert ("tensorflow.python.ops.nn_ops", SPARSE) in status.bindings
    assert ("tensorflow.python.ops.nn", SPARSE) in status.bindings
    assert len(set(status.bindings)) == len(status.bindings)
    for module, name in status.bindings:
        assert module in str(status) and name in str(status)
    assert version in str(status)


def test_status_lists_what_stock_lacks_the_same_patched_or_not():
    before = dict(tf1xent.status().stock)
    with tf1xent.patched():
        assert dict(tf1xent.status().stock) == before
    answers = {question: answer for question, answer in before.items()}
    mixed = [answer for question, answer in answers.items() if "mixed derivative" in question]
    assert mixed == ["wrong"]  # in every TensorFlow up to 2.21
    confident = [answer for question, answer in answers.items() if "confident" in question]
    assert confident == ["wrong"]
    (second,) = [answer for question, answer in answers.items() if "second" in question]
    with tf.Graph().as_default():
        logits = tf.constant([[0.0, 0.0]])
        loss = STOCK[SPARSE](labels=tf.constant([0]), logits=logits)
        try:
            tf.hessians(loss, logits)
        except LookupError:
            assert second == "raises LookupError"
        else:
            assert second == "right"


def test_status_of_an_override_alone():
    tf1xent.override_gradients()
    try:
        status = tf1xent.status()
        assert status.gradients_overridden is True and status.patched is False
    finally:
        tf1xent.restore_gradients()
