"""Tools that swap gradients in TensorFlow's registry around, within and across the patch."""

import warnings

import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.ops import gen_array_ops

import tf1xent
from tests.support.bindings import (
    GUARD,
    OP_TYPES,
    REGISTRY,
    SPARSE_OP,
    STOCK_GRADIENT,
    assert_as_stock,
    assert_overridden,
)
from tf1xent.errors import PatchConflictWarning

pytestmark = pytest.mark.usefixtures("all_restored")


def theirs(op, *cotangents):
    """Somebody else's gradient."""
    return STOCK_GRADIENT(op, *cotangents)


class Swap:
    """What SHAP and DeepExplain do: swap in place, later put back what they found."""

    def __enter__(self):
        self.found = REGISTRY[SPARSE_OP]["type"]
        REGISTRY[SPARSE_OP]["type"] = theirs

    def __exit__(self, *_):
        REGISTRY[SPARSE_OP]["type"] = self.found


def test_entries_are_their_own():
    with tf1xent.patched():
        for op_type in OP_TYPES:
            named = REGISTRY["Tf1xent" + op_type]
            assert REGISTRY[op_type] is not named
            assert REGISTRY[op_type]["type"] is not named["type"]


def test_a_swap_within_the_patch():
    with tf1xent.patched():
        with Swap():
            assert not tf1xent.status().gradients_overridden
            assert (f"the gradient of {SPARSE_OP}", "somebody else's is there") in (
                tf1xent.status().skipped
            )
        assert tf1xent.status().gradients_overridden
        assert_overridden()
    assert_as_stock()


def test_a_swap_around_the_patch():
    with Swap():
        with pytest.warns(PatchConflictWarning, match=SPARSE_OP + "; until this is undone"):
            tf1xent.patch()
        assert_overridden()
        tf1xent.unpatch()
        assert REGISTRY[SPARSE_OP]["type"] is theirs
    assert_as_stock()


def test_a_swap_that_ends_within_the_patch():
    swap = Swap()
    swap.__enter__()
    with pytest.warns(PatchConflictWarning, match=SPARSE_OP):
        tf1xent.patch()
    swap.__exit__()
    assert not tf1xent.status().gradients_overridden
    tf1xent.patch()
    assert_overridden()
    tf1xent.unpatch()
    assert REGISTRY[SPARSE_OP]["type"] is theirs
    REGISTRY[SPARSE_OP]["type"] = STOCK_GRADIENT


def test_a_swap_that_ends_within_the_patch_is_put_back():
    swap = Swap()
    swap.__enter__()
    with pytest.warns(PatchConflictWarning, match=SPARSE_OP):
        tf1xent.patch()
    swap.__exit__()
    tf1xent.unpatch()
    assert REGISTRY[SPARSE_OP]["type"] is STOCK_GRADIENT
    assert_as_stock()


def test_a_swap_that_outlives_the_patch():
    swap = Swap()
    tf1xent.patch()
    swap.__enter__()
    with pytest.warns(PatchConflictWarning, match=SPARSE_OP + " in between"):
        tf1xent.unpatch()
    assert REGISTRY[SPARSE_OP]["type"] is theirs
    swap.__exit__()
    assert_as_stock()  # what was put back is ours, which now calls TensorFlow's
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tf1xent.patch()
        assert_overridden()
        tf1xent.unpatch()
    assert REGISTRY[SPARSE_OP]["type"] is STOCK_GRADIENT


@pytest.mark.parametrize("enter", ["patch", "patched", "override_gradients"])
def test_a_warning_as_an_error_leaves_nothing_behind(enter):
    before = REGISTRY[SPARSE_OP]
    with Swap(), warnings.catch_warnings():
        warnings.simplefilter("error", PatchConflictWarning)
        with pytest.raises(PatchConflictWarning, match="^" + enter):
            if enter == "patched":
                tf1xent.patched().__enter__()
            else:
                getattr(tf1xent, enter)()
        assert REGISTRY[SPARSE_OP] is before and not tf1xent.is_patched()
        assert not tf1xent.status().gradients_overridden


def test_somebody_elses_guard_keeps_its_effect_on_other_guards():
    """Only what guards a cross-entropy gradient is ours."""
    stock = REGISTRY[GUARD]["type"]
    REGISTRY[GUARD]["type"] = lambda op, cotangent: 5 * cotangent
    try:
        with pytest.warns(PatchConflictWarning, match=GUARD):
            tf1xent.patch()
        with tf.Graph().as_default(), tf.Session() as session:
            value = tf.constant(1.0)
            guarded = gen_array_ops.prevent_gradient(value, message="") * 3
            assert session.run(tf.gradients(guarded, value)) == [15.0]
        tf1xent.unpatch()
    finally:
        REGISTRY[GUARD]["type"] = stock
