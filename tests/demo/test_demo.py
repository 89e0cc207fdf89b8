"""The demo, from its command line, shortened: the numbers it finds, not what it looks like."""

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.support import processes
from tf1xent.demo import collapse, digits

pytestmark = pytest.mark.exhaustive

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def stock_has_second_derivative():
    """Whether TensorFlow by itself, unpatched, differentiates the sparse op twice."""
    with tf.Graph().as_default():
        logits = tf.zeros([1, 2])
        labels = tf.zeros([1], tf.int32)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        try:
            tf.hessians(loss, logits)
        except LookupError:
            return False
    return True


def run_python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        env=processes.environment(),
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One run of `python -m tf1xent demo`, two epochs long: its output, figures and picture."""
    folder = tmp_path_factory.mktemp("demo")
    picture, report = str(folder / "demo.png"), str(folder / "demo.json")
    process = run_python(
        "-m", "tf1xent", "demo", "--epochs", "2", "--output", picture, "--json", report
    )
    assert process.returncode == 0, process.stderr
    with open(report) as file:
        figures = json.load(file)
    return SimpleNamespace(
        output=process.stdout, errors=process.stderr, figures=figures, picture=picture
    )


def test_hessian_agrees_with_finite_differences(demo):
    assert demo.figures["finite_difference_error"] < 1e-7
    assert demo.figures["asymmetry"] < 1e-12
    assert demo.figures["float32_error"] < 1e-4


def test_eigenvalues_are_those_of_a_loss_that_curves_upwards(demo):
    eigenvalues = np.array(demo.figures["eigenvalues"])
    assert eigenvalues.shape == (digits.NUM_PIXELS * digits.NUM_HIDDEN,)
    assert (np.diff(eigenvalues) <= 0).all()
    assert eigenvalues[0] > -10 * eigenvalues[-1] > 0


def test_network_learns(demo):
    assert demo.figures["accuracy"] > 0.8  # two epochs; thirty reach 0.97
    assert "training" in demo.errors  # the progress bar


def test_patched_loss_and_gradient_do_not_collapse(demo):
    figures = demo.figures["collapse"]
    assert figures["confidences"][-1] == 50
    assert max(figures["patched_loss_errors"]) < 1e-6
    assert max(figures["patched_gradient_errors"]) < 1e-6


def test_stock_loss_and_gradient_collapse(demo):
    figures = demo.figures["collapse"]
    assert figures["stock_loss_errors"][-1] == 1  # the answer is 0
    assert figures["stock_gradient_errors"][-1] == 1


def test_stock_ends_in_lookup_error_exactly_where_tensorflow_raises_it(demo):
    if stock_has_second_derivative():
        assert demo.figures["lookup_error"] is None
        assert demo.figures["stock_difference"] < 1e-3
    else:
        assert demo.figures["lookup_error"].startswith("LookupError: Gradient explicitly disabled")
        assert demo.figures["lookup_error"] in demo.output
        assert "stock_difference" not in demo.figures


def test_probes_say_what_is_wrong_on_this_tensorflow_and_nothing_else(demo):
    probes = demo.figures["probes"]
    wrong = {question for question, verdict in probes.items() if verdict != "right"}
    for part in ("mixed derivative", "do not sum to 1", "confident"):
        assert [question for question in wrong if part in question], part
    (second,) = [question for question in probes if "second derivative" in question]
    want = "right" if stock_has_second_derivative() else "raises LookupError"
    assert probes[second] == want
    for question, verdict in probes.items():
        assert f"{question}: {verdict}\n" in demo.output
    shown = [line for line in demo.output.splitlines() if line.startswith("    TensorFlow ")]
    assert len(shown) == len(wrong)
    for line in shown:
        stock, ours, exact = re.fullmatch(
            " +TensorFlow (.+), tf1xent (.+), exact (.+)", line
        ).groups()
        assert ours == exact != stock


def test_picture_is_written(demo):
    with open(demo.picture, "rb") as file:
        assert file.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE
    assert os.path.getsize(demo.picture) > 10000


def test_script_knows_nothing_of_tf1xent():
    with open(digits.__file__) as file:
        assert "tf1xent" not in file.read()


def test_closed_forms_agree_with_float64_tensorflow_where_that_is_accurate():
    losses, gradients = collapse.exact([0, 1, 5])
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(np.array([[t] + [0] * 9 for t in (0, 1, 5)], np.float64))
        probabilities = tf.nn.softmax(logits)[:, 0]
        expected = session.run([-tf.log(probabilities), probabilities - 1])
    np.testing.assert_allclose(losses, expected[0], rtol=1e-13)
    np.testing.assert_allclose(gradients, expected[1], rtol=1e-13)
