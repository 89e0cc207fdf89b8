"""Signals, failed clean-ups and failed moves: all of a rewritten file or folder, or nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings

import pytest

from tests.support import processes
from tests.support.graph_files import FROZEN, SAVED_MODEL, contents, copied, rewrite
from tf1xent import graphs
from tf1xent.errors import CleanUpWarning

pytestmark = pytest.mark.usefixtures("default_handlers")
BOTH = pytest.mark.parametrize("source", [FROZEN, SAVED_MODEL], ids=["file", "folder"])


def moving(move, calls, number, at):
    """A function that moves, as `move` does, with a signal to this process after call `at`."""

    def moved(old, new):
        move(old, new)
        calls.append(new)
        if len(calls) == at:
            os.kill(os.getpid(), number)

    return moved


def remove(path):
    if path.is_dir():
        shutil.rmtree(str(path))
    else:
        path.unlink()


@BOTH
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_between_two_moves_waits_for_the_last(name, source, tmp_path, capsys, monkeypatch):
    """So that the result is there, and nothing of what was there before."""
    number = getattr(signal, name)
    target = tmp_path / source.name
    for is_there, at in ((False, 1), (True, 1), (True, 2)):
        if is_there:
            copied(source, target)
        calls = []
        for move in ("rename", "replace"):
            monkeypatch.setattr(os, move, moving(getattr(os, move), calls, number, at))
        code = rewrite(source, target, "--force")
        monkeypatch.undo()
        assert code == (128 + number if len(calls) >= at else 0)
        assert len(capsys.readouterr().err.splitlines()) == (code != 0)
        assert os.listdir(str(tmp_path)) == [target.name]
        assert graphs.inspect_graph(target).ops == ()
        remove(target)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def signalling(number):
    """os.fsync after a signal to this process."""
    real = os.fsync
    return lambda file: (os.kill(os.getpid(), number), real(file))


@BOTH
def test_a_signal_while_it_is_written_leaves_nothing(source, tmp_path, capsys, monkeypatch):
    target = tmp_path / source.name
    for is_there in (False, True):
        if is_there:
            copied(source, target)
        before = contents(tmp_path)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            monkeypatch.setattr(os, "fsync", signalling(number))
            assert rewrite(source, target, "--force") == 128 + number
            monkeypatch.undo()
            assert contents(tmp_path) == before
            assert len(capsys.readouterr().err.splitlines()) == 1


# Two commands in one process, each of which stops where its file is written and has no name yet.
WAITING = """
import os, sys, time
os.fsync = lambda file: time.sleep(120)
from tf1xent.cli import main
print(main(sys.argv[1:]), flush=True)
sys.exit(main(sys.argv[1:]))
"""


def wait_for_partial_file(process, folder):
    deadline = time.time() + 120
    while not list(folder.glob("*.partial/saved_model.pb")) and time.time() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)


@pytest.mark.exhaustive
def test_a_process_that_a_signal_ends_leaves_nothing(tmp_path):
    command = ["rewrite", str(SAVED_MODEL), str(tmp_path / "new"), "--mode", "tag"]
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, *command],
        env=processes.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    wait_for_partial_file(process, tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == f"{128 + signal.SIGINT}\n"
    wait_for_partial_file(process, tmp_path)
    process.send_signal(signal.SIGTERM)
    errors = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM
    said = [line for line in errors.splitlines() if line.startswith("tf1xent")]
    assert said == ["tf1xent: interrupted.", "tf1xent: stopped by SIGTERM."]
    assert "Traceback" not in errors
    assert os.listdir(str(tmp_path)) == []


def test_signals_that_somebody_ignores_stay_ignored(tmp_path, monkeypatch):
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(os, "fsync", signalling(signal.SIGHUP))
    try:
        assert rewrite(FROZEN, tmp_path / "new.pb") == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_clean_up_that_fails_is_a_warning(tmp_path, capsys, monkeypatch):
    target = copied(SAVED_MODEL, tmp_path / "new")

    def fail(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(shutil, "rmtree", fail)
    assert rewrite(SAVED_MODEL, target, "--force") == 0
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert errors.startswith("tf1xent rewrite: warning: ")
    assert errors.endswith(".partial cannot be removed: Permission denied.\n")
    assert graphs.inspect_graph(target).ops == ()
    with pytest.warns(CleanUpWarning, match="cannot be removed: Permission denied"):
        graphs.rewrite_saved_model(SAVED_MODEL, target, overwrite=True)
    # Nor does it hide the error that it comes after.
    monkeypatch.setattr(os, "fsync", fail)
    with warnings.catch_warnings(record=True) as told, pytest.raises(PermissionError):
        warnings.simplefilter("always")
        graphs.rewrite_saved_model(SAVED_MODEL, tmp_path / "other")
    assert [warning.category for warning in told] == [CleanUpWarning]


def test_what_cannot_be_moved_back_is_not_removed(tmp_path, monkeypatch):
    target = copied(SAVED_MODEL, tmp_path / "new")
    before, moves, real = contents(target), [], os.rename

    def fail(old, new):
        moves.append(new)
        if len(moves) > 1:
            raise PermissionError(13, "Permission denied", old, None, new)
        real(old, new)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.warns(CleanUpWarning, match="new was renamed to .*partial and cannot be moved"):
        with pytest.raises(PermissionError, match=str(target)):
            graphs.rewrite_saved_model(SAVED_MODEL, target, overwrite=True)
    (kept,) = tmp_path.glob("*.partial")
    assert contents(kept) == before
