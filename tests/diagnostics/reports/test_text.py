"""A diagnosis as text and as JSON types."""

import json
import os

import pytest

from tests.diagnostics.reports.findings import FOUND, LINE, NOTHING, PARAMETERS, UNKNOWN, ZERO

TEXT = """\
the loss is inf at step 150: log of 0 (train.py:41, in model; row 17)
what       3 entries of `Softmax:0` are 0, and `Log:0` is their log.
where      `Log:0` (Log)
numbers    zeros 3, largest 0.25, rows [0, 1, 2, 3, 4, 5, and 3 more], of x nan
remedy     Compute the loss from the logits.
tried      the loss from the logits: before inf, after 2.31. It helps.
also       parameters not finite: 4 of 8 entries of `w` are NaN. Start again from a checkpoint
           before it.
run again  every op by itself. It went wrong there too."""


def test_the_text_has_the_problem_the_cause_and_its_place_in_one_line_and_then_all_of_it():
    assert str(FOUND) == TEXT


def test_what_was_not_found_is_not_claimed():
    assert str(NOTHING).splitlines() == [
        "no loss, gradient or parameter is seen to be wrong",
        "run again  every op by itself.",
    ]
    assert str(UNKNOWN).splitlines() == [
        "the loss is nan at step 0: no cause found",
        "run again  every op by itself. It did not go wrong there.",
    ]


def test_tried_is_said_only_where_it_was():
    tried = ZERO.trial._replace(after="inf", helped=False)
    lines = str(FOUND._replace(findings=[ZERO._replace(trial=tried)])).splitlines()
    assert "tried      the loss from the logits: before inf, after inf. It does not help." in lines
    without = str(FOUND._replace(findings=[ZERO._replace(trial=None), PARAMETERS]))
    assert "tried" not in without.lower()
    later = str(FOUND._replace(findings=[PARAMETERS, ZERO]))
    assert "Tried: the loss from the logits: before inf," in later


def test_files_below_the_current_folder_are_named_from_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside = ZERO._replace(line=os.path.join(os.getcwd(), LINE))
    assert f"({LINE}; row 17)" in str(FOUND._replace(findings=[inside]))
    outside = ZERO._replace(line=os.path.join(os.getcwd() + "er", LINE))
    assert f"er{os.sep}{LINE}; row 17)" in str(FOUND._replace(findings=[outside]))


def test_no_name_controls_the_terminal():
    finding = ZERO._replace(what="\x1b[31mred\n", tensor="a\rb", line="x\x1b.py:1, in f")
    text = str(FOUND._replace(problem="the loss\x07", findings=[finding]))
    assert not set(text) & set("\x1b\r\x07")
    assert r"\x1b[31mred" in text


def test_json_holds_all_of_it_without_nan():
    found = FOUND.to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found) == ["cause", "problem", "step", "findings", "how", "reproduced"]
    first, second = found["findings"]
    assert first["numbers"] == {
        "zeros": 3,
        "largest": 0.25,
        "rows": list(range(9)),
        "of": {"x": "nan"},
    }
    assert first["trial"] == {
        "change": "the loss from the logits",
        "before": "inf",
        "after": "2.31",
        "helped": True,
    }
    assert (second["trial"], second["row"]) == (None, None)
    assert second["numbers"] == {"smallest": "-inf", "largest": "inf"}
    assert (found["cause"], NOTHING.to_dict()["cause"]) == ("log of 0", None)


@pytest.mark.parametrize("diagnosis", [FOUND, NOTHING, UNKNOWN], ids=["found", "nothing", "none"])
def test_every_line_fits(diagnosis):
    assert max(map(len, str(diagnosis).splitlines())) <= 100
