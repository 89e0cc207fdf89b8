"""The README's tables say what is supplied, what is refused, and for which TensorFlow."""

import re

import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops

from tests import ROOT
from tests.second_order.test_supplied import CASES
from tf1xent import _tf
from tf1xent.second_order.table import EXTENDED, REFUSED, SUPPLIED

TEXT = (ROOT / "tf1xent/second_order/README.md").read_text(encoding="utf-8")
MEASURED = ("1.13", "1.15", "2.4", "2.11", "2.15", "2.21")
# There where a program imports them, on 1.x.
OF_CONTRIB = {"PeriodicResampleOpGrad", "ResamplerGrad"}
VERSION = ".".join(tf.__version__.split(".")[:2])


def table(heading):
    """Return the rows of the table below a heading: {op type: [the other cells]}."""
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)
    return {op_type: cells.split(" | ") for op_type, cells in rows}


def supplied_cells(op_type):
    """Return what a row says of a supplied gradient, after the versions."""
    cases = [case for case in CASES if case.op_type == op_type]
    checks = {
        "differences": any(case.runs for case in cases),
        "third order": any(case.third for case in cases),
        "composition": any(case.composition for case in cases),
    }
    supplied = SUPPLIED[op_type]
    return [supplied.method, supplied.orders, ", ".join(name for name in checks if checks[name])]


def refused_cells(op_type):
    """Return what a row says of a refused gradient, after the versions."""
    reason = REFUSED[op_type]
    return [reason[0].upper() + reason[1:]]


@pytest.mark.parametrize("op_type", sorted(SUPPLIED))
def test_a_supplied_gradient_has_its_row(op_type):
    versions, *cells = table("Supplied")[op_type]
    assert cells == supplied_cells(op_type)
    check_versions(op_type, versions)


@pytest.mark.parametrize("op_type", sorted(REFUSED))
def test_a_refused_gradient_has_its_row(op_type):
    versions, *cells = table("Refused")[op_type]
    assert cells == refused_cells(op_type)
    check_versions(op_type, versions)


def check_versions(op_type, versions):
    lacking = MEASURED if versions == "all" else tuple(versions.split(", "))
    assert lacking and set(lacking) <= set(MEASURED)
    if VERSION in MEASURED and (_tf.op_definition(op_type) or op_type not in OF_CONTRIB):
        exists = _tf.op_definition(op_type) is not None
        gap = _tf.has_gap(op_type) or is_from_contrib(op_type)
        assert (VERSION in lacking) == (exists and gap)


def is_from_contrib(op_type):
    """Return whether the gradient came with 1.x's contrib, which a program may import or not."""
    entry = ops._gradient_registry._registry.get(op_type) or {"type": None}
    return ".contrib." in getattr(entry["type"], "__module__", "")


@pytest.mark.parametrize("op_type", sorted(EXTENDED))
def test_an_extended_gradient_has_its_row(op_type):
    assert table("Extended")[op_type] == [EXTENDED[op_type].method, EXTENDED[op_type].orders]


def test_there_is_no_row_too_many():
    assert set(table("Extended")) == set(EXTENDED)
    assert set(table("Supplied")) == set(SUPPLIED)
    assert set(table("Refused")) == set(REFUSED)
