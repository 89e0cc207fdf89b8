"""The guide tf1xent/diagnostics/README.md: its tables are what the code and the results say."""

import re

import pytest

from tests import ROOT
from tf1xent import _table
from tf1xent.diagnostics import CAUSES

README = ROOT / "tf1xent" / "diagnostics" / "README.md"
TEXT = README.read_text(encoding="utf-8")
TO_COME = "<!-- to come -->"
PLACES = re.findall(r"^<!-- from (\S+) -->\n(.*?)^<!-- end -->$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_causes_are_those_of_the_table():
    rows = [[cause.name, cause.meaning, cause.remedy] for cause in CAUSES]
    assert _table.markdown([["cause", "what it is", "what to do"], *rows]) in TEXT


def foreign_lines(place, results):
    """The lines of a place that its file of results does not have.

    >>> foreign_lines("| a | 1 |\\n| a | 2 |\\n", "# Results\\n| a | 1 |\\n")
    ['| a | 2 |']
    """
    return [line for line in place.splitlines() if line and line not in results.splitlines()]


@pytest.mark.parametrize("source, place", PLACES, ids=[source for source, _ in PLACES])
def test_figures_are_those_of_the_results(source, place):
    if not (ROOT / "tools").exists():
        pytest.skip("tools/ is not in this tree")
    if place.strip() == TO_COME:
        return
    results = (ROOT / source).read_text(encoding="utf-8")
    assert place.strip() and foreign_lines(place, results) == []


def test_there_are_places_for_the_figures():
    assert len(PLACES) == 2
