"""What patch() binds, where, and that every way back leads to what was there."""

import sys
import threading
import types

import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.ops import nn as ops_nn
from tensorflow.python.ops import nn_ops

import tf1xent
from tests.support.bindings import (
    SPARSE_OP,
    STOCK,
    assert_ours,
    assert_stock,
    bindings,
    public_bindings,
    registered,
)
from tests.support.loss_graph import SPARSE

pytestmark = pytest.mark.usefixtures("all_restored")


# --- What is bound ----------------------------------------------------------------------------


def test_every_binding_is_replaced_and_restored_by_identity():
    before, public = bindings(), public_bindings()
    assert ("tensorflow.python.ops.nn_ops", SPARSE) in before
    tf1xent.patch()
    assert bindings() == {}
    for key, function in public_bindings().items():
        assert function is not public[key], key
    tf1xent.unpatch()
    assert bindings().keys() == before.keys()
    assert all(bindings()[key] is function for key, function in before.items())
    assert all(public_bindings()[key] is function for key, function in public.items())


def test_names_that_share_a_function_share_it_under_the_patch():
    with tf1xent.patched():
        assert getattr(ops_nn, SPARSE) is getattr(nn_ops, SPARSE)
        assert getattr(tf.nn, SPARSE) is getattr(nn_ops, SPARSE)


def test_registry_entries_are_replaced_and_restored_by_identity():
    before = registered()
    tf1xent.patch()
    assert all(registered()[name] is not before[name] for name in before)
    tf1xent.unpatch()
    assert all(registered()[name] is before[name] for name in before)


def test_values_are_ours_under_the_patch_and_tensorflows_after():
    assert_stock(tf.nn.sparse_softmax_cross_entropy_with_logits)
    tf1xent.patch()
    assert_ours(tf.nn.sparse_softmax_cross_entropy_with_logits)
    tf1xent.unpatch()
    assert_stock(tf.nn.sparse_softmax_cross_entropy_with_logits)


def test_globals_of_user_code(loaded):
    module = loaded(xent=STOCK[SPARSE], also=STOCK[SPARSE], other=len)
    with tf1xent.patched():
        assert module.xent is module.also
        assert module.xent is getattr(nn_ops, SPARSE)
        assert module.other is len
        assert_ours(module.xent)
    assert module.xent is STOCK[SPARSE] and module.also is STOCK[SPARSE]


def test_modules_imported_while_patched_get_tensorflows_function_back(loaded):
    tf1xent.patch()
    module = loaded(xent=tf.nn.sparse_softmax_cross_entropy_with_logits)
    assert_ours(module.xent)
    tf1xent.unpatch()
    assert module.xent is STOCK[SPARSE]


def test_a_second_patch_takes_in_what_was_loaded_since(loaded):
    tf1xent.patch()
    module = loaded(xent=STOCK[SPARSE])
    tf1xent.patch()
    assert_ours(module.xent)
    tf1xent.unpatch()
    assert module.xent is STOCK[SPARSE]


def test_unusual_modules_do_no_harm(loaded):
    class Lazy(types.ModuleType):
        def __getattr__(self, name):
            raise AssertionError("must not be loaded for a patch")

    lazy = Lazy("patching_test_lazy")
    sys.modules[lazy.__name__] = lazy
    sys.modules["patching_test_none"] = None
    sys.modules["patching_test_object"] = object()
    try:
        with tf1xent.patched():
            assert tf1xent.is_patched()
    finally:
        for name in ("lazy", "none", "object"):
            del sys.modules["patching_test_" + name]


def test_a_module_that_refuses_to_be_changed_does_not_break_undo(loaded):
    class Frozen(types.ModuleType):
        def __setattr__(self, name, value):
            raise AttributeError("read only")

    frozen = Frozen("patching_test_frozen")
    frozen.__dict__["xent"] = STOCK[SPARSE]
    sys.modules[frozen.__name__] = frozen
    before = bindings()
    try:
        try:
            tf1xent.patch()
        except AttributeError:
            pass
        tf1xent.unpatch()
        after = bindings()
    finally:
        del sys.modules[frozen.__name__]
    assert after.keys() == before.keys()
    assert all(after[key] is before[key] for key in before)
    assert registered()[SPARSE_OP]["type"] is not None
    assert not tf1xent.is_patched()


def test_a_module_unloaded_in_between_is_restored_too(loaded):
    module = loaded(xent=STOCK[SPARSE])
    tf1xent.patch()
    del sys.modules[module.__name__]
    tf1xent.unpatch()
    assert module.xent is STOCK[SPARSE]


# --- The way back -----------------------------------------------------------------------------


def test_idempotent():
    tf1xent.patch()
    function, entries = getattr(nn_ops, SPARSE), registered()
    tf1xent.patch()
    assert getattr(nn_ops, SPARSE) is function
    assert all(registered()[name] is entries[name] for name in entries)
    tf1xent.unpatch()
    assert not tf1xent.is_patched()
    tf1xent.unpatch()
    assert getattr(nn_ops, SPARSE) is STOCK[SPARSE]


def test_unpatch_without_a_patch():
    tf1xent.unpatch()
    assert not tf1xent.is_patched()


def test_nested_blocks():
    with tf1xent.patched():
        with tf1xent.patched():
            assert tf1xent.is_patched()
        assert tf1xent.is_patched()
        assert getattr(nn_ops, SPARSE) is not STOCK[SPARSE]
    assert not tf1xent.is_patched()


def test_a_block_inside_a_patch_leaves_it():
    tf1xent.patch()
    with tf1xent.patched():
        pass
    assert tf1xent.is_patched()


def test_patch_inside_a_block_outlives_it():
    with tf1xent.patched():
        tf1xent.patch()
    assert tf1xent.is_patched()


def test_unpatch_inside_a_block_takes_effect_at_its_end():
    tf1xent.patch()
    with tf1xent.patched():
        tf1xent.unpatch()
        assert tf1xent.is_patched()
    assert not tf1xent.is_patched()


def test_an_exception_passes_through_and_undoes():
    with pytest.raises(ZeroDivisionError):
        with tf1xent.patched():
            assert tf1xent.is_patched()
            raise ZeroDivisionError
    assert not tf1xent.is_patched()
    assert getattr(nn_ops, SPARSE) is STOCK[SPARSE]


def test_an_exception_in_an_inner_block():
    with tf1xent.patched():
        with pytest.raises(KeyError):
            with tf1xent.patched():
                raise KeyError
        assert tf1xent.is_patched()
    assert not tf1xent.is_patched()


def test_blocks_that_end_out_of_order():
    first, second = tf1xent.patched(), tf1xent.patched()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert tf1xent.is_patched()
    second.__exit__(None, None, None)
    assert not tf1xent.is_patched()


def test_unpatch_from_another_thread():
    tf1xent.patch()
    thread = threading.Thread(target=tf1xent.unpatch)
    thread.start()
    thread.join()
    assert not tf1xent.is_patched()
    assert getattr(nn_ops, SPARSE) is STOCK[SPARSE]


def test_threads_that_enter_and_leave(loaded):
    module = loaded(xent=STOCK[SPARSE])
    before = bindings()
    outside = []
    barrier = threading.Barrier(6)

    def enter_and_leave():
        barrier.wait()
        for _ in range(5):
            with tf1xent.patched():
                for function in (module.xent, getattr(nn_ops, SPARSE), getattr(tf.nn, SPARSE)):
                    if function is STOCK[SPARSE]:
                        outside.append(function)

    threads = [threading.Thread(target=enter_and_leave) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outside == []
    assert not tf1xent.is_patched()
    after = bindings()
    assert after.keys() == before.keys()
    assert all(after[key] is before[key] for key in before)


def test_override_and_patch_end_independently():
    before = registered()
    tf1xent.override_gradients()
    tf1xent.patch()
    ours = registered()
    tf1xent.unpatch()
    assert all(registered()[name] is ours[name] for name in ours)
    assert tf1xent.status().gradients_overridden
    tf1xent.restore_gradients()
    assert all(registered()[name] is before[name] for name in before)
    tf1xent.override_gradients()
    with tf1xent.patched():
        tf1xent.restore_gradients()
        assert all(registered()[name] is ours[name] for name in ours)
    assert all(registered()[name] is before[name] for name in before)
