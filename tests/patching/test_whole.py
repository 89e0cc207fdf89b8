"""patch() across blocks, odd environments and a second import of tf1xent."""

import textwrap

import pytest

import tf1xent
from tests.support.processes import run_forked

pytestmark = pytest.mark.usefixtures("all_restored")


# --- Blocks -----------------------------------------------------------------------------------


def test_an_equal_inner_block_ends_itself_and_no_other():
    def implementation():
        return tf1xent.status().implementation

    with tf1xent.patched(implementation="graph"):
        with tf1xent.patched(implementation="auto"):
            with tf1xent.patched(implementation="graph"):
                assert implementation() == "graph"
            assert implementation() == "auto"
            with tf1xent.patched():
                assert implementation() == "auto"
            assert implementation() == "auto"
        assert implementation() == "graph"


# --- status() never raises --------------------------------------------------------------------


def test_status_in_an_environment_that_names_no_implementation(monkeypatch):
    monkeypatch.setenv("TF1XENT_IMPLEMENTATION", "quick")
    status = tf1xent.status()
    assert "TF1XENT_IMPLEMENTATION must be one of" in status.implementation
    assert "quick" in str(status)


@pytest.mark.lengthy
def test_a_second_import_finds_the_patch():
    """Modules purged and imported anew, and a module reloaded: in a process of its own."""
    program = """
        import importlib
        import sys
        import warnings

        warnings.simplefilter("ignore")
        import tensorflow.compat.v1 as tf
        from tensorflow.python.framework import ops
        from tensorflow.python.ops.losses import losses_impl

        import tf1xent

        name, loss = "sparse_softmax_cross_entropy_with_logits", "softmax_cross_entropy"
        registry = ops._gradient_registry._registry
        types = "SparseSoftmaxCrossEntropyWithLogits", "SoftmaxCrossEntropyWithLogits"
        # In a list: globals of this module that hold the functions are replaced too.
        kept = [getattr(tf.nn, name), getattr(losses_impl, loss)]
        entries = [registry[op_type] for op_type in types]

        def purge():
            for key in [key for key in sys.modules if key.split(".")[0] == "tf1xent"]:
                del sys.modules[key]
            return importlib.import_module("tf1xent")

        def is_stock():
            same = [registry[op_type] is entry for op_type, entry in zip(types, entries)]
            return all(same) and kept == [getattr(tf.nn, name), getattr(losses_impl, loss)]

        def second():
            with tf.Graph().as_default(), tf.Session() as session:
                logits = tf.constant([[0.0, 0.0]])
                per_row = kept[0](labels=tf.constant([0]), logits=logits)
                return session.run(tf.hessians(per_row, logits))[0].ravel().tolist()

        assert is_stock()
        tf1xent.patch(losses=True, implementation="auto")
        block = tf1xent.patched(implementation="graph")
        block.__enter__()
        tf1xent = purge()
        assert tf1xent.is_patched() and tf1xent.is_patched(name) and tf1xent.is_patched(loss)
        assert tf1xent.get_original(name) is kept[0] and tf1xent.get_original(loss) is kept[1]
        status = tf1xent.status()
        assert status.gradients_overridden and status.implementation == "graph", status
        assert second() == [0.25, -0.25, -0.25, 0.25]
        block.__exit__(None, None, None)
        assert tf1xent.status().implementation == "auto" and tf1xent.is_patched(loss)
        importlib.reload(tf1xent.patching.replacing)
        tf1xent.patching.replacing.unpatch()
        assert is_stock() and not tf1xent.is_patched()

        tf1xent.override_gradients()
        tf1xent = purge()
        assert tf1xent.status().gradients_overridden and not tf1xent.is_patched()
        assert second() == [0.25, -0.25, -0.25, 0.25]
        tf1xent.restore_gradients()
        assert is_stock()
        with tf1xent.patched():
            assert getattr(tf.nn, name) is not kept[0] and tf1xent.get_original(name) is kept[0]
            assert second() == [0.25, -0.25, -0.25, 0.25]
        assert is_stock() and not tf1xent.status().bindings
        print("whole")
    """
    ran = run_forked("-c", textwrap.dedent(program))
    assert ran.stdout.split()[-1:] == ["whole"], ran.stderr
