"""What the doctor finds on the TensorFlow at hand: stock's answers, ours, and the report."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.doctor.doctor import findings
from tf1xent import _probes, _tf, kernels
from tf1xent.doctor import checks, report
from tf1xent.doctor import findings as findings_module
from tf1xent.kernels import cache, sources


@pytest.fixture(scope="module")
def found():
    """The JSON of a run on the TensorFlow at hand."""
    code, found = findings()
    assert code == 0 and found["works"] and found["problems"] == []
    return found


@pytest.fixture(scope="module")
def answers(found):
    """By key of a check, the two answers."""
    return {check["key"]: (check["tensorflow"], check["tf1xent"]) for check in found["checks"]}


def test_every_check_is_there_once_and_asked_of_both(found):
    assert [check["key"] for check in found["checks"]] == [c.key for c in checks.CHECKS]
    for check, row in zip(checks.CHECKS, found["checks"]):
        assert row["question"] == check.probe.question
        assert row["tensorflow"] is not None
        assert (row["tf1xent"] is not None) == check.is_ours


def test_ours_are_right(answers):
    for key, (_, ours) in answers.items():
        if ours is not None:
            assert (key, ours["verdict"]) == (key, "right")
            assert ours["error"] < 1e-5


def test_stock_is_truly_stock(answers):
    """What no TensorFlow does right; a patched process, or one side for both, would."""
    zeros = {
        "mixed-derivative": [0, 0],
        "margin-20": [0],
        "margin-50": [0],
        "float64-losses": [0],
        "clipped-by-hand": [0, 0],
    }
    for key, computed in zeros.items():
        assert answers[key][0]["verdict"] == "wrong"
        assert np.abs(answers[key][0]["computed"]).tolist() == computed
    assert answers["unnormalised-labels"][0]["computed"] == [-1.5, 0.5]
    assert answers["masked-class"][0]["computed"] == ["nan"]
    assert answers["log-softmax-by-hand"][0]["computed"] == ["nan", "nan"]
    assert answers["margin-20-gradient"][0]["computed"][0] == 0
    for key in ("shared-labels", "loop-hessian", "resize-hessian"):
        assert answers[key][0]["verdict"].startswith("raises ")
        assert answers[key][0]["message"]


def test_the_sparse_op_raises_where_tensorflow_says_so(answers):
    stock = answers["sparse-hessian"][0]
    raises = not _probes.sparse_op_has_second_derivative()
    assert stock["verdict"] == ("raises LookupError" if raises else "right")
    assert raises == _tf.version().startswith("1.")


def test_exact_answers_are_those_of_closed_forms():
    exact = {check.key: check.probe.exact for check in checks.CHECKS}
    for margin in (20, 50):
        small = np.exp(-margin)
        near = {"rtol": 2 * small + 1e-15}  # the next term of the series, and float64's roundoff
        np.testing.assert_allclose(exact[f"margin-{margin}"], [small], **near)
        np.testing.assert_allclose(exact[f"margin-{margin}-gradient"], [-small, small], **near)


def test_versions_devices_and_kernels_are_those_of_this_process(found):
    assert found["tensorflow"]["version"].replace("-", "") == _tf.version().replace("-", "")
    assert found["packages"]["numpy"] == np.__version__
    assert found["python"]["executable"] == sys.executable
    assert "CPU" in [device["type"] for device in found["devices"]["devices"]]
    assert found["kernels"]["loaded"] == kernels.available()
    assert found["kernels"]["wrong"] == []


def test_what_to_do_next_is_what_applies(found):
    text = " ".join(found["next"])
    for part in ("tf1xent run", "losses=True", "control_flow_v2=True", "tf1xent migrate"):
        assert part in text
    assert ("build-kernels" in text) == (not found["kernels"]["loaded"])
    verdict = [c["tensorflow"]["verdict"] for c in found["checks"] if c["key"] == "relu-of-nan"]
    assert ("TF_ENABLE_ONEDNN_OPTS" in text) == (verdict != ["right"])


def test_the_report_fits_a_terminal_and_shows_every_answer(found):
    lines = report.text(found).splitlines()
    assert max(map(len, lines)) <= report.COLUMNS
    for check in found["checks"]:
        (line,) = [line for line in lines if line.startswith(check["question"])]
        assert line.split()[-1] == ("right" if check["tf1xent"] else "-")
    shown = {line.split("  ")[0]: line for line in lines}
    assert "wrong: 0" in shown["mixed derivative of the dense op"]
    assert "wrong by 50 %" in shown["gradient where labels do not sum to 1"]
    assert "wrong: NaN" in shown["by hand: log(softmax(x)), gradient"]


@pytest.mark.exhaustive
def test_a_bad_setting_is_told_once():
    code, found = findings(TF1XENT_IMPLEMENTATION="nonsense")
    assert code == 1
    (problem,) = found["problems"]
    assert problem["what"] == "tf1xent.patch() fails."
    assert "TF1XENT_IMPLEMENTATION must be one of" in problem["detail"]


@pytest.mark.exhaustive
def test_a_library_that_ends_the_process_ends_that_step_only(tmp_path, monkeypatch):
    monkeypatch.setenv("TF1XENT_KERNEL_CACHE", str(tmp_path / "cache"))
    target = sources.current_target(sources.source_folder())
    folder = cache.folder_of(target, "test")
    os.makedirs(folder)
    (tmp_path / "aborts.c").write_text(
        "#include <stdlib.h>\n__attribute__((constructor)) static void stop(void) { abort(); }\n"
    )
    library = os.path.join(folder, cache.LIBRARY)
    made = ["cc", "-shared", "-fPIC", str(tmp_path / "aborts.c"), "-o", library]
    subprocess.run(made, check=True)
    cache.write_record(folder, target, "test", [])

    code, found = findings()
    assert code == 1
    (problem,) = found["problems"]
    assert problem["what"] == "The native kernels are wrong here: ends: SIGABRT."
    assert len(found["checks"]) == len(checks.CHECKS)
    assert found["devices"]["devices"]


def test_notes_are_of_what_is_there(found):
    assert not [note for note in found["notes"] if "newer than all" in note or "patches" in note]
    changed = dict(found, tensorflow=dict(found["tensorflow"], version="2.99.0", patched=True))
    changed["tensorflow"]["distributions"] = {"tensorflow": "2.99.0", "tensorflow-cpu": "2.98.0"}
    notes = " ".join(findings_module._notes(changed))
    assert "TensorFlow 2.99.0 is newer than all" in notes
    assert "tensorflow 2.99.0, tensorflow-cpu 2.98.0" in notes
    assert "Something patches TensorFlow" in notes
