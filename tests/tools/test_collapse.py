"""tools/examples/collapse.py: where rounding takes a gradient, by NumPy alone, and what is kept.

Which loss learns more is a finding, not a fact of theory, and is not asserted.
"""

import importlib
import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests import ROOT

EXAMPLES, PAGE = ROOT / "tools" / "examples", ROOT / "tools" / "docs" / "when_accuracy_matters.md"
if not EXAMPLES.exists():
    pytest.skip("tools/ is not in this tree", allow_module_level=True)

# 1 + s rounds to 1 below half of its unit in the last place; TensorFlow may add the terms of s one
# by one, each of which then rounds to 0. Between the two bounds either may come out.
CERTAINLY_0, CERTAINLY_NOT = 2.0**-26, 2.0**-20
NUM_STEPS = 400


@pytest.fixture(scope="module")
def collapse():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield importlib.import_module("collapse")


@pytest.fixture(scope="module")
def report(collapse):
    return importlib.import_module("collapse_report")


@pytest.fixture(scope="module")
def trained(collapse):
    """Logits of digits after training, the gradients of all losses in them, and the labels."""
    setting = collapse.SETTINGS["digits"]
    data = setting.data(0)
    with tf.Graph().as_default(), collapse.session() as session:
        training = collapse.Training(setting, "TF float32", "Adam", 0, data)
        logits = training.parts[0]["logits"]
        rows = {
            name: tf.gradients(loss(data[0].targets, logits), logits)[0]
            for name, loss in collapse.LOSSES.items()
        }
        session.run(tf.global_variables_initializer())
        for _ in range(NUM_STEPS):
            session.run(training.step)
        logits, rows, measured = *session.run([logits, rows]), training.measure(session)
    return logits.astype(np.float64), rows, data[0].targets, measured


def without_label(logits, labels):
    """s / (1 + s), the sum of all other probabilities, and s itself."""
    others = logits - logits[np.arange(len(labels)), labels][:, None]
    others[np.arange(len(labels)), labels] = -np.inf
    sums = np.exp(others).sum(axis=1)
    return sums / (1 + sums), sums


def test_the_fused_op_has_no_gradient_at_the_label_where_float32_absorbs(trained):
    logits, rows, labels, measured = trained
    _, sums = without_label(logits, labels)
    at_label = rows["TF float32"][np.arange(len(labels)), labels]
    absorbed = sums < CERTAINLY_0
    assert 0 < absorbed.sum() < len(labels)
    assert (at_label[absorbed] == 0).all()
    assert (at_label[sums > CERTAINLY_NOT] != 0).all()
    # float64 absorbs later.
    assert (rows["TF float64"][np.arange(len(labels)), labels][sums > 2.0**-48] != 0).all()
    assert measured["zero at label"] == np.mean(at_label == 0)
    assert measured["zero rows"] == np.mean((rows["TF float32"] == 0).all(axis=1))


def test_ours_has_it_everywhere(trained):
    logits, rows, labels, _ = trained
    expected, sums = without_label(logits, labels)
    normal = sums > np.finfo(np.float32).tiny
    at_label = rows["tf1xent"][np.arange(len(labels)), labels][normal].astype(np.float64)
    gaps = 1 + (logits.max(axis=1, keepdims=True) - logits).max(axis=1)[normal]
    bound = 2.0**-24 * (16 * gaps + np.sqrt(10)) * expected[normal]
    assert normal.any() and (at_label != 0).all()
    assert (np.abs(at_label + expected[normal]) <= bound).all()


def test_stablemax_is_the_papers(collapse):
    logits = np.array([[-3.0, 0.0, 2.0], [1e3, -1e3, 0.5]], np.float32)
    values = np.array([[1 / 4, 1, 3], [1001, 1 / 1001, 1.5]])
    shares = values / values.sum(axis=1, keepdims=True)
    labels, targets = np.array([0, 1]), np.array([[0.25, 0.25, 0.5], [0.0, 1.0, 0.0]])
    with tf.Graph().as_default(), collapse.session() as session:
        loss = collapse.LOSSES["StableMax"]
        sparse, dense = session.run([loss(t, tf.constant(logits)) for t in (labels, targets)])
    np.testing.assert_allclose(sparse, -np.log(shares[[0, 1], labels]), rtol=1e-12)
    np.testing.assert_allclose(dense, -(targets * np.log(shares)).sum(axis=1), rtol=1e-12)


def test_the_pairs_are_added(collapse):
    train, test = collapse.addition(3)
    pairs = np.concatenate([train.inputs, test.inputs]).reshape(-1, 2, collapse.MODULUS)
    assert (pairs.sum(axis=2) == 1).all()
    first, second = pairs.argmax(axis=2).T
    assert sorted(zip(first, second)) == [tuple(p) for p in np.ndindex(2 * (collapse.MODULUS,))]
    classes = np.concatenate([train.classes, test.classes])
    assert (classes == (first + second) % collapse.MODULUS).all()
    assert len(train.classes) == int(0.4 * collapse.MODULUS**2)


def test_what_was_run_is_not_run_again(collapse, report, tmp_path, monkeypatch, capsys):
    short = collapse.SETTINGS["digits"]._replace(steps={"SGD": 20})
    monkeypatch.setattr(collapse, "SETTINGS", {"digits": short})
    few = {name: collapse.LOSSES[name] for name in ("TF float32", "tf1xent")}
    monkeypatch.setattr(collapse, "LOSSES", few)
    collapse.make(tmp_path, 1)
    runs = tmp_path / "runs.jsonl"
    lines = [line for line in runs.read_text().splitlines() if line]
    assert len(lines) == 3 == 1 + len(capsys.readouterr().out.splitlines())
    # The last run was cut off: it alone is made again, and comes out the same.
    runs.write_text("\n".join(lines)[:-20])
    collapse.make(tmp_path, 1)
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert list(report.read(runs).runs.values()) == [json.loads(line) for line in lines[1:]]


def test_the_page_shows_the_runs_beside_it(report):
    shown = report.tables(report.read(PAGE.with_name("collapse.jsonl")))
    assert report.BEGIN + "\n" + shown + "\n" + report.END in PAGE.read_text(encoding="utf-8")
