"""What other code replaces while the patch is in force, and gradients of its own."""

import functools
import warnings

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops
from tensorflow.python.ops import nn_ops

import tf1xent
from tests.support.bindings import (
    CONFIDENT,
    CONFIDENT_LOSS,
    DENSE_OP,
    REGISTRY,
    SPARSE_OP,
    STOCK,
    confident_loss,
    registered,
)
from tests.support.loss_graph import DENSE_V2, SPARSE
from tf1xent.errors import PatchConflictWarning

pytestmark = pytest.mark.usefixtures("all_restored")


# --- Somebody else in between -----------------------------------------------------------------


def test_a_binding_replaced_by_somebody_else_stays_theirs(loaded):
    def theirs(labels=None, logits=None):
        return None

    module = loaded(xent=STOCK[SPARSE], other=STOCK[SPARSE])
    tf1xent.patch()
    module.xent = theirs
    with pytest.warns(PatchConflictWarning, match="patching_test_program.xent"):
        tf1xent.unpatch()
    assert module.xent is theirs
    assert module.other is STOCK[SPARSE]
    assert getattr(nn_ops, SPARSE) is STOCK[SPARSE]
    assert not tf1xent.is_patched()


@pytest.mark.parametrize("leave", ["unpatch", "block"])
def test_the_warning_points_to_the_caller(loaded, leave):
    module = loaded(xent=STOCK[SPARSE])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if leave == "unpatch":
            tf1xent.patch()
            module.xent = len
            tf1xent.unpatch()
        else:
            with tf1xent.patched():
                module.xent = len
    (warning,) = [w for w in caught if issubclass(w.category, PatchConflictWarning)]
    assert warning.filename == __file__


def test_the_warning_as_an_error_does_not_break_undo(loaded):
    """A program that runs with warnings as errors must not be left half patched."""
    module = loaded(xent=STOCK[SPARSE])
    later = loaded("later", xent=STOCK[SPARSE])
    before = registered()
    tf1xent.patch()
    module.xent = len
    with warnings.catch_warnings():
        warnings.simplefilter("error", PatchConflictWarning)
        with pytest.raises(PatchConflictWarning):
            tf1xent.unpatch()
    try:
        assert later.xent is STOCK[SPARSE]
        assert not tf1xent.is_patched()
        assert all(registered()[name] is before[name] for name in before)
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PatchConflictWarning)
            tf1xent.unpatch()


def test_a_wrapper_of_somebody_else_keeps_working(loaded):
    module = loaded(xent=STOCK[SPARSE])
    tf1xent.patch()
    ours = module.xent

    @functools.wraps(ours)
    def wrapper(*args, **kwargs):
        return ours(*args, **kwargs)

    module.xent = wrapper
    with pytest.warns(PatchConflictWarning):
        tf1xent.unpatch()
    assert module.xent is wrapper
    assert confident_loss(wrapper) == pytest.approx(CONFIDENT_LOSS, rel=1e-5)


def test_a_binding_that_somebody_deleted(loaded):
    module = loaded(xent=STOCK[SPARSE])
    tf1xent.patch()
    del module.xent
    with pytest.warns(PatchConflictWarning):
        tf1xent.unpatch()
    assert not hasattr(module, "xent")


def test_a_binding_that_somebody_already_restored(loaded):
    module = loaded(xent=STOCK[SPARSE])
    tf1xent.patch()
    module.xent = STOCK[SPARSE]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tf1xent.unpatch()
    assert module.xent is STOCK[SPARSE]


def test_a_function_that_was_not_stock_when_we_came_is_left_alone(loaded):
    def theirs(labels=None, logits=None):
        return STOCK[SPARSE](labels=labels, logits=logits)

    module = loaded(xent=theirs)
    with tf1xent.patched():
        assert module.xent is theirs
        with tf.Graph().as_default(), tf.Session() as session:
            logits = tf.constant(CONFIDENT)
            (hessian,) = tf.hessians(module.xent(tf.constant([0]), logits), logits)
            assert session.run(hessian).any()  # by the gradient override


def test_a_gradient_replaced_by_somebody_else_stays_theirs():
    before = REGISTRY[SPARSE_OP]
    tf1xent.patch()
    theirs = dict(before)
    REGISTRY[SPARSE_OP] = theirs
    try:
        with pytest.warns(PatchConflictWarning, match=SPARSE_OP):
            tf1xent.unpatch()
        assert REGISTRY[SPARSE_OP] is theirs
    finally:
        REGISTRY[SPARSE_OP] = before


# --- Programs with a gradient of their own ----------------------------------------------------


def _register_theirs():
    calls = []
    name = f"PatchingTestGradient{len(REGISTRY)}"

    @ops.RegisterGradient(name)
    def theirs(op, loss_cotangent, _):
        calls.append(op.type)
        gradients = tf.expand_dims(loss_cotangent, -1) * op.outputs[1] * 3.0
        return gradients, None

    return name, calls


@pytest.mark.parametrize("op_type, function", [(SPARSE_OP, SPARSE), (DENSE_OP, DENSE_V2)])
def test_a_gradient_override_map_of_the_program_keeps_its_effect(op_type, function):
    name, calls = _register_theirs()
    labels = np.array([1, 0]) if function == SPARSE else np.eye(2, dtype=np.float32)[::-1]
    tf1xent.patch()
    with tf.Graph().as_default() as graph, tf.Session() as session:
        logits = tf.constant([[1.0, 2.0], [3.0, 1.0]])
        with graph.gradient_override_map({op_type: name}):
            loss = getattr(tf.nn, function)(labels=labels, logits=logits)
        assert op_type in {op.type for op in graph.get_operations()}
        theirs = tf.gradients(loss, logits)[0]
        assert calls == [op_type]
        outside = getattr(tf.nn, function)(labels=labels, logits=logits)
        ours = tf.gradients(outside, logits)[0]
        theirs, ours = session.run([theirs, ours])
        np.testing.assert_allclose(theirs, 3.0 * ours, rtol=1e-5)


def test_a_gradient_override_map_for_other_ops_changes_nothing():
    tf1xent.patch()
    with tf.Graph().as_default() as graph:
        with graph.gradient_override_map({"Relu": "Identity"}):
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=CONFIDENT)
        assert SPARSE_OP not in {
            op.type for op in graph.get_operations() if op.name.endswith(SPARSE_OP)
        }
