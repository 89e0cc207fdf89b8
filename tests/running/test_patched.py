"""What TensorFlow serves in a program: exact functions, or its own with exact derivatives."""

import json
import re

import pytest

from tests.running.processes import PROGRAMS, plain, run
from tests.support.processes import WITHOUT_KERAS

STREAMS = "streams.py"
SPARSE, DENSE = "SparseSoftmaxCrossEntropyWithLogits", "SoftmaxCrossEntropyWithLogits"


def table(text):
    """Returns the rows of a report: (times, what is served, line, through)."""
    lines = text[text.index("tf1xent run: ") :].splitlines()
    rows = [re.split(r"  +", line.strip()) for line in lines[2:]]
    return {(int(row[0]), row[1], row[2], "".join(row[3:])) for row in rows}


def promised(path):
    """Returns the rows that a program's comments promise for the lines that follow them."""
    rows = set()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = re.match(r" *# (\d+): ([^,]+)(?:, (\S+))?$", line)
        if found:
            rows.add((int(found.group(1)), found.group(2), number + 1, found.group(3) or ""))
    return rows


def test_the_report_says_what_was_served_and_from_which_line():
    path = PROGRAMS / "served.py"
    process = run("--report", path.name, cwd=str(PROGRAMS), variables=WITHOUT_KERAS)
    assert process.code == 0, process.err
    rows = {
        (times, what, int(re.match(path.name + r":(\d+), in ", line).group(1)), through)
        for times, what, line, through in table(process.err)
    }
    assert rows == promised(path)
    assert "tf1xent run: 5 calls and 1 gradient served.\n" in process.err


def streams(*options):
    process = run(*options, STREAMS, cwd=str(PROGRAMS), variables=WITHOUT_KERAS)
    assert process.code == 0, process.err
    return json.loads(process.out), process.err


@pytest.mark.lengthy
def test_override_only_adds_no_op_and_leaves_random_numbers():
    stock = plain(STREAMS, cwd=str(PROGRAMS), variables=WITHOUT_KERAS)
    assert stock.code == 0, stock.err
    want = json.loads(stock.out)
    found, report = streams("--override-only", "--report")
    assert found["names"] == want["names"]
    assert found["seen"] == want["seen"]
    assert found["second"] == "there"
    assert {row[1] for row in table(report)} == {"gradient of " + SPARSE, "gradient of " + DENSE}
    lines = {SPARSE: f"{STREAMS}:12, in <module>", DENSE: f"{STREAMS}:13, in <module>"}
    assert all(line == lines[what.split()[-1]] for _, what, line, _ in table(report))

    patched, report = streams("--losses", "--implementation", "graph", "--report")
    assert patched["names"] != want["names"]
    assert patched["second"] == "there"
    assert table(report) == {
        (1, "tf.losses.sparse_softmax_cross_entropy", lines[SPARSE], ""),
        (1, "tf.losses.softmax_cross_entropy", lines[DENSE], ""),
    }
