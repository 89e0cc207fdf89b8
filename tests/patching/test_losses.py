"""patch(losses=True): tf.losses' two cross-entropies become ours, and come back."""

import sys
import types

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.ops.losses import losses_impl

import tf1xent

SPARSE = "sparse_softmax_cross_entropy"
DENSE = "softmax_cross_entropy"
STOCK = {name: getattr(losses_impl, name) for name in (SPARSE, DENSE)}

RANDOM = np.random.RandomState(11)
LOGITS = RANDOM.normal(size=(5, 3))
LABELS = RANDOM.randint(3, size=5)
SOFT_LABELS = RANDOM.dirichlet(np.ones(3), size=5)
WEIGHTS = np.array([1.0, 0.0, 2.0, 0.5, 1.0])


@pytest.fixture(autouse=True)
def unpatched():
    yield
    tf1xent.unpatch()
    assert all(getattr(losses_impl, name) is STOCK[name] for name in STOCK)


def values(dtype):
    """Return what a program that calls tf.losses gets, weighted, smoothed, and by Estimators."""
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(LOGITS, dtype)
        tf.losses.sparse_softmax_cross_entropy(LABELS, logits)
        tf.losses.sparse_softmax_cross_entropy(LABELS, logits, WEIGHTS, reduction="none")
        tf.losses.softmax_cross_entropy(SOFT_LABELS, logits, WEIGHTS, 0.25, scope="smooth")
        tf.losses.softmax_cross_entropy(
            onehot_labels=SOFT_LABELS, logits=logits, reduction=tf.losses.Reduction.MEAN
        )
        losses = tf.losses.get_losses()
        gradients = [tf.gradients(loss, logits)[0] for loss in losses]
        return [loss.name for loss in losses], session.run(losses + gradients)


def ours(name):
    return getattr(tf.losses, name) is not STOCK[name]


def test_values_and_names_are_unchanged_in_float32():
    stock_names, stock = values(tf.float32)
    with tf1xent.patched(losses=True):
        assert ours(SPARSE) and ours(DENSE)
        names, patched = values(tf.float32)
    assert names == stock_names
    for expected, found in zip(stock, patched):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)


def test_float64_keeps_its_digits_only_with_the_losses_patched():
    shifted = LOGITS - LOGITS.max(1, keepdims=True)
    expected = np.mean(np.log(np.exp(shifted).sum(1)) - shifted[np.arange(5), LABELS])
    with tf1xent.patched():
        assert not ours(SPARSE)
        without = values(tf.float64)[1][0]
    with tf1xent.patched(losses=True):
        found = values(tf.float64)[1][0]
    assert abs(found / expected - 1) < 1e-14 < abs(without / expected - 1)


@pytest.mark.parametrize("name", [SPARSE, DENSE])
def test_hessians(name):
    with tf1xent.patched(losses=True), tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(LOGITS)
        labels = LABELS if name == SPARSE else np.eye(3)[LABELS]
        loss = getattr(tf.losses, name)(labels, logits)
        (hessian,) = session.run(tf.hessians(loss, logits))
    exponentials = np.exp(LOGITS)
    p = exponentials / exponentials.sum(1, keepdims=True)
    for row in range(5):
        expected = (np.diag(p[row]) - np.outer(p[row], p[row])) / 5
        np.testing.assert_allclose(hessian[row, :, row], expected, atol=1e-15)


def test_layers_and_blocks():
    assert not tf1xent.is_patched(SPARSE)
    with tf1xent.patched():
        assert tf1xent.is_patched() and not tf1xent.is_patched(SPARSE)
        with tf1xent.patched(losses=True):
            assert tf1xent.is_patched(SPARSE) and tf1xent.is_patched(DENSE)
        assert tf1xent.is_patched() and not tf1xent.is_patched(SPARSE)
    tf1xent.patch(losses=True)
    tf1xent.patch()  # takes nothing back
    with tf1xent.patched():
        pass
    assert tf1xent.is_patched(SPARSE)
    bound = tf1xent.status().bindings
    assert ("tensorflow.python.ops.losses.losses_impl", SPARSE) in bound
    tf1xent.unpatch()
    assert not tf1xent.is_patched() and not ours(SPARSE)


def test_the_original_can_be_had():
    with tf1xent.patched(losses=True):
        for name in STOCK:
            assert tf1xent.get_original(name) is STOCK[name]


def test_functions_that_a_program_has_imported_by_name():
    module = types.ModuleType("patching_losses_test_program")
    module.loss = STOCK[SPARSE]
    sys.modules[module.__name__] = module
    try:
        with tf1xent.patched(losses=True):
            assert module.loss is getattr(tf.losses, SPARSE) is not STOCK[SPARSE]
        assert module.loss is STOCK[SPARSE]
    finally:
        del sys.modules[module.__name__]


def test_a_programs_own_gradient_override_stays_in_force():
    name = "PatchingLossesTestGradient"
    if name not in tf_registered:
        tf.RegisterGradient(name)(lambda op, loss, _: (7 * tf.ones_like(op.inputs[0]), None))
        tf_registered.add(name)
    with tf1xent.patched(losses=True), tf.Graph().as_default() as graph:
        logits = tf.constant(LOGITS, tf.float32)
        with graph.gradient_override_map({"SparseSoftmaxCrossEntropyWithLogits": name}):
            loss = tf.losses.sparse_softmax_cross_entropy(LABELS, logits, reduction="none")
        with tf.Session() as session:
            assert (session.run(tf.gradients(loss, logits)[0]) == 7).all()


tf_registered = set()


@pytest.mark.parametrize(
    "name, arguments",
    [
        (SPARSE, {"labels": None, "logits": LOGITS}),
        (DENSE, {"onehot_labels": SOFT_LABELS, "logits": None}),
        (SPARSE, {"labels": LABELS, "logits": LOGITS, "reduction": "no such"}),
        (SPARSE, {"labels": LABELS, "logits": LOGITS, "weights": np.ones(4)}),
        (DENSE, {"onehot_labels": np.ones((4, 3)), "logits": LOGITS}),
    ],
)
def test_what_tf_losses_refuses_is_refused_with_the_same_type(name, arguments):
    errors = []
    for patch in (False, True):
        if patch:
            tf1xent.patch(losses=True)
        with tf.Graph().as_default(), pytest.raises(Exception) as raised:
            getattr(tf.losses, name)(**arguments)
        errors.append(raised.type)
    assert errors[0] is errors[1]
