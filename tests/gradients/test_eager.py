"""The override under eager tapes and in forward mode."""

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf

import tf1xent
from tests.gradients.overriding import (
    LABELS,
    LOGITS,
    ONE_SUM,
    SOFT_LABELS,
    U,
    V,
    assert_close,
    labels_of,
    module_results,
    weights_of,
)
from tests.oracle import reference
from tests.support.loss_graph import NAMES, SPARSE


def needs_eager():
    if not tf.executing_eagerly():
        pytest.skip("this TensorFlow has no eager execution by default")


def tape_product(function, point, *vectors):
    """Nested tapes: one order more than there are vectors."""

    def of_order(order):
        with tensorflow.GradientTape() as tape:
            tape.watch(point)
            value = function(point) if order == 1 else of_order(order - 1) * vectors[order - 2]
            value = tf.reduce_sum(value)
        return tape.gradient(value, point)

    return of_order(len(vectors) + 1)


def _eager_function(name):
    return lambda logits: getattr(tf.nn, name)(labels=labels_of(name), logits=logits)


@pytest.mark.parametrize("mode", ["eager", "tf.function"])
@pytest.mark.parametrize("name", NAMES)
def test_tapes(name, mode):
    needs_eager()
    stock = tape_product(_eager_function(name), tf.constant(LOGITS)).numpy()
    tf1xent.override_gradients()

    def both(logits):
        function = _eager_function(name)
        return tape_product(function, logits), tape_product(function, logits, V)

    both = both if mode == "eager" else tensorflow.function(both)
    first, second = both(tf.constant(LOGITS))
    if mode == "eager":
        assert first.numpy().tobytes() == stock.tobytes()
    assert_close(first, stock)
    assert_close(second, reference.Reference(LOGITS).derivative_product([V], weights_of(name)))


@pytest.mark.parametrize("name", NAMES)
def test_third_order_under_tapes(name):
    """For labels that sum to 1: eager tapes keep no labels, and S counts as a constant."""
    needs_eager()
    tf1xent.override_gradients()
    logits, labels = LOGITS[ONE_SUM], labels_of(name)[ONE_SUM]
    got = tape_product(
        lambda x: getattr(tf.nn, name)(labels=labels, logits=x),
        tf.constant(logits),
        U[ONE_SUM],
        V[ONE_SUM],
    )
    want = reference.Reference(logits).derivative_product([U[ONE_SUM], V[ONE_SUM]])
    assert_close(got, want)


def test_mixed_derivative_under_tapes():
    needs_eager()
    tf1xent.override_gradients()
    logits, labels = tf.constant(LOGITS[ONE_SUM]), tf.constant(SOFT_LABELS[ONE_SUM])

    def derivative(first, second, vector):
        with tensorflow.GradientTape() as outer:
            outer.watch(second)
            with tensorflow.GradientTape() as inner:
                inner.watch(first)
                loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)
            along = tf.reduce_sum(inner.gradient(loss, first) * vector)
        return outer.gradient(along, second)

    oracle = reference.Reference(LOGITS[ONE_SUM])
    v = V[ONE_SUM]
    assert_close(derivative(logits, labels, v), oracle.mixed_product_transposed(v))
    assert_close(derivative(labels, logits, v), oracle.mixed_product(v))


def _needs_forward_mode():
    needs_eager()
    if not hasattr(getattr(tensorflow, "autodiff", None), "ForwardAccumulator"):
        pytest.skip("this TensorFlow has no tf.autodiff.ForwardAccumulator")


def _forward_over_reverse(function, point, tangent, target=None):
    target = point if target is None else target
    with tensorflow.autodiff.ForwardAccumulator(point, tf.constant(tangent)) as accumulator:
        with tensorflow.GradientTape() as tape:
            tape.watch(target)
            loss = tf.reduce_sum(function())
        return accumulator.jvp(tape.gradient(loss, target))


@pytest.mark.parametrize("name", NAMES)
def test_forward_mode(name):
    _needs_forward_mode()
    tf1xent.override_gradients()
    logits = tf.constant(LOGITS)
    with tensorflow.autodiff.ForwardAccumulator(logits, tf.constant(V)) as accumulator:
        loss = _eager_function(name)(logits)
    oracle = reference.Reference(LOGITS)
    if name == SPARSE:
        gradient = oracle.sparse_gradient(LABELS)
    else:  # TensorFlow's first order
        gradient = oracle.probabilities() - SOFT_LABELS
    assert_close(accumulator.jvp(loss), np.sum(gradient * V, axis=1))
    got = _forward_over_reverse(lambda: _eager_function(name)(logits), logits, V)
    assert_close(got, oracle.derivative_product([V], weights_of(name)))


@pytest.mark.parametrize("ran_before", [False, True])
def test_mixed_derivative_in_forward_mode(ran_before):
    """Also where forward mode ran with TensorFlow's own gradients, whose traces it keeps."""
    _needs_forward_mode()
    rows = 1 if ran_before else 2  # shapes that no other test has traced
    logits, labels = tf.constant(LOGITS[:rows, :3]), tf.constant(SOFT_LABELS[:rows, :3])
    tangent = V[:rows, :3]

    def mixed():
        return _forward_over_reverse(
            lambda: tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits),
            labels,
            tangent,
            logits,
        )

    if ran_before:
        mixed()
    tf1xent.override_gradients()
    assert_close(mixed(), reference.Reference(LOGITS[:rows, :3]).mixed_product(tangent))


def test_forward_mode_after_restore_is_stock():
    _needs_forward_mode()
    logits, labels = tf.constant(LOGITS[:3, :2]), tf.constant(SOFT_LABELS[:3, :2])

    def mixed():
        return _forward_over_reverse(
            lambda: tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits),
            labels,
            V[:3, :2],
            logits,
        ).numpy()

    tf1xent.override_gradients()
    assert mixed().any()
    tf1xent.restore_gradients()
    assert not mixed().any()  # stock TensorFlow's wrong zeros


def test_eager_execution_of_1x():
    """Its tapes do not keep the sparse op's inputs: LookupError, and nothing else."""
    if tf.executing_eagerly():
        pytest.skip("this TensorFlow's tapes keep what is needed; see the tests above")
    answers = module_results("eager_override").splitlines()
    assert "dense close: True" in answers
    (sparse,) = [line for line in answers if line.startswith("sparse raises:")]
    assert sparse.startswith("sparse raises: LookupError")
    assert "tf1xent" in sparse
