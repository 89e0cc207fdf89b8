"""patch() is done whole or not at all, whatever programs have put into sys.modules."""

import importlib.util
import types

import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.ops import nn_ops
from tensorflow.python.util import tf_export

import tf1xent
from tests.support.bindings import (
    STOCK,
    assert_as_stock,
    assert_overridden,
)
from tests.support.loss_graph import SPARSE
from tf1xent.errors import PatchConflictWarning

pytestmark = pytest.mark.usefixtures("all_restored")


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
    module.__dict__["xent"] = STOCK[SPARSE]
    return module


def _nameless():
    module = types.ModuleType("nameless")
    module.__name__ = None
    module.xent = STOCK[SPARSE]
    return module


ODD = {
    "answering": (Answering, None),
    "raising": (Raising, ("odd", "RuntimeError: not connected")),
    "odd namespace": (OddNamespace, ("odd", "TypeError: its __dict__ is a int")),
    "nameless": (_nameless, None),
    "none": (lambda: None, None),
    "object": (object, None),
    "class": (lambda: type("Named", (), {"xent": STOCK[SPARSE]}), None),
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
        assert module.xent is getattr(nn_ops, SPARSE) is not STOCK[SPARSE]
        assert ("after_odd", "xent") in status.bindings
        assert_overridden()
        if kind in ("nameless", "class"):
            assert odd.xent is module.xent
            assert ("odd", "xent") in status.bindings
    assert module.xent is STOCK[SPARSE]
    if kind in ("nameless", "class"):
        assert odd.xent is STOCK[SPARSE]
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
    assert not tf1xent.is_patched() and getattr(nn_ops, SPARSE) is STOCK[SPARSE]
    for module in (good, bad):
        assert "LOADED" not in object.__getattribute__(module, "__dict__")
    assert good.LOADED is True
    with pytest.raises(ImportError, match="no such library"):
        assert bad.LOADED


def test_a_lazy_module_that_loads_while_patched_gets_tensorflows_function_back(entry, tmp_path):
    text = f"from tensorflow.python.ops.nn_ops import {SPARSE} as xent\n"
    module = entry("lazy_user", _lazy(tmp_path, "lazy_user", text))
    with tf1xent.patched():
        assert module.xent is not STOCK[SPARSE]
    assert module.xent is STOCK[SPARSE]


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
    assert not tf1xent.is_patched() and getattr(nn_ops, SPARSE) is STOCK[SPARSE]
    assert module.xent is ours
    assert tf1xent.status().skipped == [("freezing.xent", "TypeError: frozen")]
    assert_as_stock()
    Freezing.frozen = False
    with tf1xent.patched():
        pass
    assert module.xent is STOCK[SPARSE]


@pytest.mark.parametrize("enter", ["patch", "patched"])
def test_an_interrupt_half_way_leaves_nothing_patched(entry, enter):
    class Interrupted(types.ModuleType):
        def __setattr__(self, name, value):
            if value is not STOCK[SPARSE]:
                raise KeyboardInterrupt

    entry("interrupted", _holding(Interrupted, "interrupted"))
    module = entry("after_interrupted", _holding(types.ModuleType, "after_interrupted"))
    with pytest.raises(KeyboardInterrupt):
        if enter == "patch":
            tf1xent.patch()
        else:
            tf1xent.patched().__enter__()
    assert not tf1xent.is_patched() and not tf1xent.status().gradients_overridden
    assert module.xent is STOCK[SPARSE] and getattr(nn_ops, SPARSE) is STOCK[SPARSE]


def test_exported_names_are_replaced():
    """By them Keras finds the function of a layer when it loads a functional model."""
    exported = getattr(tf_export, "_NAME_TO_SYMBOL_MAPPING", None)
    if exported is None:
        pytest.skip("this TensorFlow looks up no function by its exported name")
    before = dict(exported)
    with tf1xent.patched():
        for name in ("nn." + SPARSE, "compat.v1.nn." + SPARSE):
            assert exported[name] is not before[name]
        assert exported["compat.v1.nn." + SPARSE] is getattr(tf.nn, SPARSE)
    assert exported == before
