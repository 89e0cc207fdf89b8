"""What the doctor says where TensorFlow is missing, broken, too old, or takes the process along."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.doctor.doctor import doctor, environment, findings
from tests.support.without_tensorflow import hide
from tf1xent.doctor import diagnosis


def broken(folder, text):
    """Puts a package into a folder that stands for TensorFlow."""
    (folder / "tensorflow").mkdir()
    (folder / "tensorflow" / "__init__.py").write_text(text)
    return folder


def problem_of(ran):
    """The one problem of a run that could measure nothing."""
    code, found = ran
    assert code == 1 and not found["works"] and found["checks"] == [] and found["next"] == []
    (problem,) = found["problems"]
    return problem


# What Python's import does, what is said of it, and what to do.
FAILURES = {
    "an exception": (
        "raise RuntimeError('out of luck\\nand more')",
        "TensorFlow's import fails.",
        "RuntimeError: out of luck",
    ),
    "a package of its own": ("import no_such_package", "needs the package no_such_package", ""),
    "protobuf": (
        "raise TypeError('Descriptors cannot be created directly.\\nIf this call came from')",
        "protobuf .* is too new",
        "TypeError: Descriptors",
    ),
    "as TensorFlow 1.x says it": (
        "raise ImportError('Traceback (most recent call last):\\n  File x\\n    import y\\n'\n"
        "'ImportError: libcudart.so.10.0: cannot open shared object file: No such file\\n\\nSee')",
        "libcudart.so.10.0 of CUDA is not found",
        "ImportError: libcudart",
    ),
    "not TensorFlow": ("", "is not TensorFlow, or only a part of it", "tensorflow.compat"),
    "an exit": ("raise SystemExit(3)", "ends the process with exit code 3", ""),
    "an abort": (
        "import os, sys; print('F tensorflow/x.cc:12] Check failed: 1 == 2', file=sys.stderr)\n"
        "sys.stderr.flush(); os.abort()",
        "`import tensorflow` ends the process by SIGABRT",
        "Check failed: 1 == 2",
    ),
    "an illegal instruction": (
        "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
        "ends the process by SIGILL.* instructions|AVX",
        "",
    ),
    "an old version": ("__version__ = '1.12.3'", "1.12.3 is older than 1.13", ""),
    "prints": ("print('{}'); raise OSError('full')", "TensorFlow's import fails", "OSError: full"),
}


@pytest.mark.parametrize("kind", sorted(FAILURES))
def test_a_broken_tensorflow_is_diagnosed(kind, tmp_path):
    text, what, detail = FAILURES[kind]
    folder = broken(tmp_path, text)
    problem = problem_of(findings(folder))
    assert re.search(what, problem["what"]), problem
    assert detail in problem["detail"] and len(problem["detail"].splitlines()) <= 1
    assert problem["remedy"]


def test_a_missing_tensorflow_is_a_finding_in_a_few_lines(tmp_path):
    hidden = hide(tmp_path, "tensorflow")
    ran = doctor(hidden, VIRTUAL_ENV="")
    assert (ran.code, ran.errors) == (1, "")
    lines = ran.output.splitlines()
    assert "TensorFlow does not work here." in lines
    assert "  what to do: pip install tensorflow" in lines
    assert max(map(len, lines)) <= 80 + len(sys.executable)


def test_nothing_but_the_standard_library_is_needed(tmp_path):
    hidden = hide(tmp_path, "tensorflow", "numpy", "absl")
    problem = problem_of(findings(hidden, VIRTUAL_ENV=""))
    assert problem["what"] == f"TensorFlow is not installed in {sys.executable}."


def test_another_active_environment_is_named(tmp_path):
    problem = problem_of(findings(hide(tmp_path, "tensorflow"), VIRTUAL_ENV=str(tmp_path)))
    assert str(tmp_path) in problem["what"]
    assert "Python of that environment" in problem["remedy"]


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "tensorflow.py").write_text("")
    ran = doctor(arguments=["--json"], cwd=tmp_path)
    assert str(tmp_path / "tensorflow.py") in ran.output
    assert "not installed by pip" in ran.output


def test_an_import_that_hangs_has_a_limit(tmp_path):
    folder = broken(tmp_path, "import time; time.sleep(600)")
    ran = doctor(folder, arguments=["--timeout", "1"])
    assert ran.code == 1
    assert "problem: `import tensorflow` takes longer than 1 s." in ran.output


HANGS = "import os, time; open({path!r}, 'w').write(str(os.getpid())); time.sleep(600)"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_both_processes(name, tmp_path):
    # A shell without job control ignores SIGINT for what it starts in the background.
    handler = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    (tmp_path / "sitecustomize.py").write_text(handler)
    noted = tmp_path / "pid"
    folder = broken(tmp_path, HANGS.format(path=str(noted)))
    process = subprocess.Popen(
        [sys.executable, "-m", "tf1xent", "doctor"],
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (noted.exists() and noted.read_text()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    output, errors = process.communicate()
    said = "interrupted" if name == "SIGINT" else "stopped by SIGTERM"
    assert (process.returncode, output) == (128 + getattr(signal, name), "")
    assert errors == f"tf1xent: {said}.\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int(noted.read_text()), 0)


# Errors as real installations wrote them, and what is behind them ---------------------------------

INSTALLED = {"numpy": "1.24.4", "protobuf": "4.24.4", "keras": "3.3.3", "tensorflow-cpu": "2.4.4"}
REAL = [
    ("TypeError: Descriptors cannot not be created directly.", 'pip install "protobuf<3.21"'),
    ("AttributeError: module 'numpy' has no attribute 'object'.", 'pip install "numpy<1.24"'),
    ("ImportError: numpy.core.umath failed to import", 'pip install "numpy<2"'),
    ("ImportError: Keras cannot be imported. Check that it is installed.", "pip install keras"),
    (
        "ImportError: cannot import name 'runtime_version' from 'google.protobuf' (/x/__init__.py)",
        "pip install --upgrade protobuf",
    ),
    (
        "ImportError: /lib/libm.so.6: version `GLIBC_2.29' not found (required by /x/y.so)",
        "install an older TensorFlow, or use a newer system",
    ),
    ("ModuleNotFoundError: No module named 'google.protobuf'", "pip install protobuf"),
    ("ModuleNotFoundError: No module named 'wrapt'", "pip install wrapt"),
    ("ModuleNotFoundError: No module named 'distutils'", 'pip install "setuptools<81"'),
]


@pytest.mark.parametrize("line, remedy", REAL)
def test_known_causes(line, remedy, monkeypatch):
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    facts = diagnosis.facts_of(INSTALLED, "2.4.4", "/place")
    text = f"Traceback (most recent call last):\n  File x\n    import y\n{line}\n\nSee also more."
    found = diagnosis.failed_import(text, facts)
    assert found.remedy.startswith(remedy)
    assert found.detail == line
    assert "{" not in found.what + found.remedy


def test_every_cause_has_texts_that_can_be_filled():
    facts = diagnosis.facts_of({}, "", None)
    for cause in diagnosis.CAUSES:
        assert "{" not in (cause.what + cause.remedy).format("x", **facts)


@pytest.mark.parametrize(
    "tensorflow, h5py, clashes",
    [
        ("1.15.5", "3.8.0", True),
        ("2.4.4", "3.1.0", True),
        ("2.4.4", "2.10.0", False),
        ("2.11.0", "3.8.0", False),
        ("1.15.5", None, False),
        ("", "3.8.0", False),
    ],
)
def test_an_h5py_that_keras_cannot_read_with(tensorflow, h5py, clashes):
    assert (diagnosis.clash(tensorflow, h5py) is not None) == clashes
