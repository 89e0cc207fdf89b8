"""tools/worker_kills.py: two workers and two runs; an answer that is wrong is counted."""

import os
import sys

import pytest
import tensorflow.compat.v1 as tf

from tests import ROOT
from tf1xent.curvature import HessianOperator

TOOLS = ROOT / "tools"
if not TOOLS.exists():
    pytest.skip("tools/ is not in this tree", allow_module_level=True)
sys.path.insert(0, str(TOOLS))

import worker_kills  # noqa: E402

COMMAND = ["--workers", "2", "--runs", "2"]


@pytest.fixture(autouse=True)
def settings():
    """The command is a process of its own; what it sets is put back."""
    environment, verbosity = dict(os.environ), tf.logging.get_verbosity()
    yield
    os.environ.clear()
    os.environ.update(environment)
    tf.logging.set_verbosity(verbosity)


@pytest.mark.lengthy
@pytest.mark.parametrize("is_broken", [False, True])
def test_answers_are_counted(is_broken, capsys, monkeypatch):
    numbers, real = [], HessianOperator.matvec

    def matvec(self, vector):
        product = real(self, vector)
        numbers.append(len(numbers))
        if is_broken and len(numbers) == 4:  # after those of the worker alone, and the first
            product[7] *= 1 + 2**-52
        return product

    monkeypatch.setattr(HessianOperator, "matvec", matvec)
    assert worker_kills.main(COMMAND) == int(is_broken)
    header, _, row = capsys.readouterr().out.splitlines()
    found = dict(zip(header.strip("| ").split(" | "), row.strip("| ").split(" | ")))
    assert (found["workers"], found["runs"]) == ("2", "2")
    right, products = found["right, bit by bit"], found["products between, right"].split(" of ")
    assert (int(right) + int(products[0]) - 2 - int(products[1])) == -int(is_broken)
