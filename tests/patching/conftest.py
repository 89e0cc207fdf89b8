"""Fixtures of the patch's tests: everything is as before afterwards; modules of a program."""

import sys
import types

import pytest

import tf1xent
from tests.support.bindings import bindings, public_bindings, registered


def everything():
    """What modules and the gradient registry hold, and the functions in the registry's entries."""
    entries = registered()
    functions = {op_type: entry["type"] for op_type, entry in entries.items()}
    return bindings(), public_bindings(), entries, functions


@pytest.fixture
def all_restored():
    """Whatever a test does, all is as it was afterwards; checks that too."""
    before = everything()
    yield
    tf1xent.unpatch()
    for one, other in zip(before, everything()):
        assert set(one) <= set(other)
        for key in one:
            assert one[key] is other[key], key
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


@pytest.fixture
def loaded(entry):
    """Makes modules of the user's, loaded, with the globals it is given."""

    def make(name="program", **bound):
        module = types.ModuleType("patching_test_" + name)
        module.__dict__.update(bound)
        return entry(module.__name__, module)

    return make
