"""patch() is done whole or not at all: among modules that refuse, tools that swap, new imports."""

import importlib.util
import subprocess
import sys
import textwrap
import types
import warnings

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops
from tensorflow.python.ops import gen_array_ops, nn_ops
from tensorflow.python.util import tf_export

import tf1xent
from tests import ROOT
from tests.oracle import reference
from tf1xent.errors import PatchConflictWarning

NAME = "sparse_softmax_cross_entropy_with_logits"
OP_TYPE = "SparseSoftmaxCrossEntropyWithLogits"
GUARD = "PreventGradient"
OP_TYPES = (OP_TYPE, "SoftmaxCrossEntropyWithLogits", GUARD)
# Not under a name of this module: patch() replaces that too.
KEPT = {"stock": getattr(nn_ops, NAME)}
REGISTRY = ops._gradient_registry._registry
STOCK_GRADIENT = REGISTRY[OP_TYPE]["type"]
LOGITS = np.array([[1.0, 2.0, 0.5]])


@pytest.fixture(autouse=True)
def way_back():
    """Whatever a test does, all is as it was afterwards; checks that too."""
    entries = {name: REGISTRY[name] for name in OP_TYPES}
    functions = {name: REGISTRY[name]["type"] for name in OP_TYPES}
    yield
    tf1xent.unpatch()
    assert getattr(nn_ops, NAME) is KEPT["stock"] and not tf1xent.is_patched()
    for name in OP_TYPES:
        assert REGISTRY[name] is entries[name] and REGISTRY[name]["type"] is functions[name], name
    status = tf1xent.status()
    assert not status.patched and not status.gradients_overridden and not status.skipped


@pytest.fixture
def entry():
    """Puts things into sys.modules under a name; takes them out."""
    put = []

    def place(name, value):
        put.append(name)
        sys.modules[name] = value
        return value

    yield place
    for name in put:
        sys.modules.pop(name, None)


def hessian():
    """The second derivative of TensorFlow's own op, or the error's type."""
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(LOGITS)
        try:
            (second,) = tf.hessians(KEPT["stock"](labels=tf.constant([1]), logits=logits), logits)
        except LookupError:
            return LookupError
        return session.run(second)[0, :, 0]


def exact_hessian():
    rows = [reference.Reference(LOGITS).derivative_product([row[None]])[0] for row in np.eye(3)]
    return np.asarray(rows, np.float64)


STOCK_HESSIAN = hessian()


def assert_overridden():
    np.testing.assert_allclose(hessian(), exact_hessian(), rtol=1e-12)


def assert_as_stock():
    np.testing.assert_array_equal(hessian(), STOCK_HESSIAN)


# --- Odd entries of sys.modules ---------------------------------------------------------------


def _lazy(folder, name, text):
    """A module of the standard library's recipe: its code runs at the first attribute access."""
    path = folder / (name + ".py")
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, str(path))
    loader = importlib.util.LazyLoader(spec.loader)
    spec.loader = loader
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


class Answering:
    """An object that answers every attribute, as mock and RPC libraries have."""

    def __getattr__(self, name):
        return self


class Raising:
    """An object that answers no attribute, not even its namespace."""

    @property
    def __dict__(self):
        raise RuntimeError("not connected")

    def __getattribute__(self, name):
        raise RuntimeError("not connected")


class OddNamespace:
    """An object whose namespace is no dictionary."""

    __dict__ = 7


class Refusing(types.ModuleType):
    """A module that is read-only."""

    def __setattr__(self, name, value):
        raise AttributeError("read only")


class Ignoring(types.ModuleType):
    """A module on which an assignment has no effect."""

    def __setattr__(self, name, value):
        pass


def _holding(kind, name):
    module = kind(name)
    module.__dict__["xent"] = KEPT["stock"]
    return module


def _nameless():
    module = types.ModuleType("nameless")
    module.__name__ = None
    module.xent = KEPT["stock"]
    return module


ODD = {
    "answering": (Answering, None),
    "raising": (Raising, ("odd", "RuntimeError: not connected")),
    "odd namespace": (OddNamespace, ("odd", "TypeError: its __dict__ is a int")),
    "nameless": (_nameless, None),
    "none": (lambda: None, None),
    "object": (object, None),
    "class": (lambda: type("Named", (), {"xent": KEPT["stock"]}), None),
    "refusing": (lambda: _holding(Refusing, "odd"), ("odd.xent", "AttributeError: read only")),
    "ignoring": (lambda: _holding(Ignoring, "odd"), ("odd.xent", "an assignment has no effect")),
    "named by a number": (lambda: types.SimpleNamespace(**{"x": 1}, __name__=3), None),
}


@pytest.mark.parametrize("kind", sorted(ODD))
def test_an_odd_entry_is_skipped_and_all_else_is_done(entry, kind):
    make, skipped = ODD[kind]
    odd = entry("odd", make())
    module = entry("after_odd", _holding(types.ModuleType, "after_odd"))
    with tf1xent.patched():
        status = tf1xent.status()
        assert list(status.skipped) == ([skipped] if skipped else [])
        assert all(part in str(status) for part in skipped or ())
        assert status.patched and status.gradients_overridden
        assert module.xent is getattr(nn_ops, NAME) is not KEPT["stock"]
        assert ("after_odd", "xent") in status.bindings
        assert_overridden()
        if kind in ("nameless", "class"):
            assert odd.xent is module.xent
            assert ("odd", "xent") in status.bindings
    assert module.xent is KEPT["stock"]
    if kind in ("nameless", "class"):
        assert odd.xent is KEPT["stock"]
    assert tf1xent.status().skipped == []
    assert_as_stock()


@pytest.mark.parametrize("when", ["before", "while patched"])
def test_lazy_modules_are_not_loaded(entry, tmp_path, when):
    if when == "while patched":
        tf1xent.patch()
    good = entry("lazy_good", _lazy(tmp_path, "lazy_good", "LOADED = True\n"))
    bad = entry("lazy_bad", _lazy(tmp_path, "lazy_bad", "raise ImportError('no such library')\n"))
    tf1xent.patch()
    assert tf1xent.status().skipped == []
    tf1xent.unpatch()
    assert not tf1xent.is_patched() and getattr(nn_ops, NAME) is KEPT["stock"]
    for module in (good, bad):
        assert "LOADED" not in object.__getattribute__(module, "__dict__")
    assert good.LOADED is True
    with pytest.raises(ImportError, match="no such library"):
        assert bad.LOADED


def test_a_lazy_module_that_loads_while_patched_gets_tensorflows_function_back(entry, tmp_path):
    text = f"from tensorflow.python.ops.nn_ops import {NAME} as xent\n"
    module = entry("lazy_user", _lazy(tmp_path, "lazy_user", text))
    with tf1xent.patched():
        assert module.xent is not KEPT["stock"]
    assert module.xent is KEPT["stock"]


def test_a_module_that_refuses_only_to_be_changed_back(entry):
    class Freezing(types.ModuleType):
        frozen = False

        def __setattr__(self, name, value):
            if Freezing.frozen:
                raise TypeError("frozen")
            super().__setattr__(name, value)

    module = entry("freezing", _holding(Freezing, "freezing"))
    tf1xent.patch()
    ours = module.xent
    Freezing.frozen = True
    with pytest.warns(PatchConflictWarning, match=r"freezing\.xent refused .*TypeError: frozen"):
        tf1xent.unpatch()
    assert not tf1xent.is_patched() and getattr(nn_ops, NAME) is KEPT["stock"]
    assert module.xent is ours
    assert tf1xent.status().skipped == [("freezing.xent", "TypeError: frozen")]
    assert_as_stock()
    Freezing.frozen = False
    with tf1xent.patched():
        pass
    assert module.xent is KEPT["stock"]


@pytest.mark.parametrize("enter", ["patch", "patched"])
def test_an_interrupt_half_way_leaves_nothing_patched(entry, enter):
    class Interrupted(types.ModuleType):
        def __setattr__(self, name, value):
            if value is not KEPT["stock"]:
                raise KeyboardInterrupt

    entry("interrupted", _holding(Interrupted, "interrupted"))
    module = entry("after_interrupted", _holding(types.ModuleType, "after_interrupted"))
    with pytest.raises(KeyboardInterrupt):
        if enter == "patch":
            tf1xent.patch()
        else:
            tf1xent.patched().__enter__()
    assert not tf1xent.is_patched() and not tf1xent.status().gradients_overridden
    assert module.xent is KEPT["stock"] and getattr(nn_ops, NAME) is KEPT["stock"]


def test_exported_names_are_replaced():
    """By them Keras finds the function of a layer when it loads a functional model."""
    exported = getattr(tf_export, "_NAME_TO_SYMBOL_MAPPING", None)
    if exported is None:
        pytest.skip("this TensorFlow looks up no function by its exported name")
    before = dict(exported)
    with tf1xent.patched():
        for name in ("nn." + NAME, "compat.v1.nn." + NAME):
            assert exported[name] is not before[name]
        assert exported["compat.v1.nn." + NAME] is getattr(tf.nn, NAME)
    assert exported == before


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


# --- Tools that swap gradients in the registry ------------------------------------------------


def theirs(op, *cotangents):
    """Somebody else's gradient."""
    return STOCK_GRADIENT(op, *cotangents)


class Swap:
    """What SHAP and DeepExplain do: swap in place, later put back what they found."""

    def __enter__(self):
        self.found = REGISTRY[OP_TYPE]["type"]
        REGISTRY[OP_TYPE]["type"] = theirs

    def __exit__(self, *_):
        REGISTRY[OP_TYPE]["type"] = self.found


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
            assert (f"the gradient of {OP_TYPE}", "somebody else's is there") in (
                tf1xent.status().skipped
            )
        assert tf1xent.status().gradients_overridden
        assert_overridden()
    assert_as_stock()


def test_a_swap_around_the_patch():
    with Swap():
        with pytest.warns(PatchConflictWarning, match=OP_TYPE + "; until this is undone"):
            tf1xent.patch()
        assert_overridden()
        tf1xent.unpatch()
        assert REGISTRY[OP_TYPE]["type"] is theirs
    assert_as_stock()


def test_a_swap_that_ends_within_the_patch():
    swap = Swap()
    swap.__enter__()
    with pytest.warns(PatchConflictWarning, match=OP_TYPE):
        tf1xent.patch()
    swap.__exit__()
    assert not tf1xent.status().gradients_overridden
    tf1xent.patch()
    assert_overridden()
    tf1xent.unpatch()
    assert REGISTRY[OP_TYPE]["type"] is theirs
    REGISTRY[OP_TYPE]["type"] = STOCK_GRADIENT


def test_a_swap_that_ends_within_the_patch_is_put_back():
    swap = Swap()
    swap.__enter__()
    with pytest.warns(PatchConflictWarning, match=OP_TYPE):
        tf1xent.patch()
    swap.__exit__()
    tf1xent.unpatch()
    assert REGISTRY[OP_TYPE]["type"] is STOCK_GRADIENT
    assert_as_stock()


def test_a_swap_that_outlives_the_patch():
    swap = Swap()
    tf1xent.patch()
    swap.__enter__()
    with pytest.warns(PatchConflictWarning, match=OP_TYPE + " in between"):
        tf1xent.unpatch()
    assert REGISTRY[OP_TYPE]["type"] is theirs
    swap.__exit__()
    assert_as_stock()  # what was put back is ours, which now calls TensorFlow's
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tf1xent.patch()
        assert_overridden()
        tf1xent.unpatch()
    assert REGISTRY[OP_TYPE]["type"] is STOCK_GRADIENT


@pytest.mark.parametrize("enter", ["patch", "patched", "override_gradients"])
def test_a_warning_as_an_error_leaves_nothing_behind(enter):
    before = REGISTRY[OP_TYPE]
    with Swap(), warnings.catch_warnings():
        warnings.simplefilter("error", PatchConflictWarning)
        with pytest.raises(PatchConflictWarning, match="^" + enter):
            if enter == "patched":
                tf1xent.patched().__enter__()
            else:
                getattr(tf1xent, enter)()
        assert REGISTRY[OP_TYPE] is before and not tf1xent.is_patched()
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
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=str(ROOT),
        capture_output=True,
        text=True,
    )
    assert ran.stdout.split()[-1:] == ["whole"], ran.stderr
