"""What commands do with errors, closed pipes and signals, and what the demo checks first."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from tests.support import processes
from tests.support.graph_files import FROZEN, META, SAVED_MODEL
from tf1xent import cli, graphs


def said(capsys, *arguments):
    """Exit code 2, nothing on stdout; returns the one line on stderr."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    output, errors = capsys.readouterr()
    assert output == "" and len(errors.splitlines()) == 1, errors
    return errors.rstrip("\n")


# Errors ------------------------------------------------------------------------------------------


def test_errors_name_their_command_once_and_no_function(tmp_path, capsys):
    (tmp_path / "damaged.pb").write_bytes(FROZEN.read_bytes()[:-1])
    (tmp_path / "there.pb").write_bytes(b"as it was")
    new = tmp_path / "new"
    cases = [
        ["rewrite", tmp_path / "damaged.pb", tmp_path / "new.pb"],
        ["rewrite", FROZEN, tmp_path / "there.pb"],
        ["rewrite", FROZEN, new / "new.pb"],
        ["rewrite", tmp_path / "gone.pb", tmp_path / "new.pb"],
        ["rewrite", tmp_path, new],
        ["rewrite", SAVED_MODEL, tmp_path / "there.pb"],
        ["rewrite", META, tmp_path / "new.pb"],
        ["inspect", tmp_path / "damaged.pb"],
        ["inspect", tmp_path / "gone.pb"],
        ["inspect", tmp_path],
    ]
    for arguments in cases:
        mode = ["--mode", "tag"] if arguments[0] == "rewrite" else []
        line = said(capsys, *arguments, *mode)
        assert line.startswith(f"tf1xent {arguments[0]}: {tmp_path}"), line
        assert line.count("tf1xent") == 1 and "Errno" not in line and line.endswith("."), line
    with pytest.raises(ValueError, match="^inspect_graph: "):
        graphs.inspect_graph(tmp_path / "damaged.pb")


# Where the output goes ---------------------------------------------------------------------------


def closed_pipe():
    """A stream that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


@pytest.mark.parametrize(
    "arguments", [["inspect", str(FROZEN)], ["inspect", str(FROZEN), "--json"], ["status"]], ids=str
)
def test_a_closed_pipe_ends_a_command_in_silence(arguments, capfd, monkeypatch):
    with closed_pipe() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.main(arguments) == 128 + signal.SIGPIPE
        stream.write("and what Python itself writes at its end")
        stream.flush()
        monkeypatch.undo()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["inspect", "--help"]], ids=str)
def test_so_does_one_that_help_goes_to(arguments, capfd, monkeypatch):
    with closed_pipe() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.main(arguments) == 128 + signal.SIGPIPE
        monkeypatch.undo()
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_output_that_does_not_arrive_is_an_error(capfd, monkeypatch):
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.main(["inspect", str(FROZEN)]) == 2
        monkeypatch.undo()
    want = "tf1xent: the output cannot be written: No space left on device.\n"
    assert capfd.readouterr() == ("", want)


def test_a_closed_stdout_is_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["inspect", str(FROZEN)]) == 0


@pytest.mark.exhaustive
def test_a_pipe_to_head():
    command = f"'{sys.executable}' -m tf1xent inspect '{META}' | true; echo ${{PIPESTATUS[0]}}"
    process = subprocess.run(
        ["bash", "-c", command],
        env=processes.environment(),
        capture_output=True,
        text=True,
    )
    assert process.stdout == f"{128 + signal.SIGPIPE}\n"
    assert "Traceback" not in process.stderr and "BrokenPipe" not in process.stderr


# Ctrl-C ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_is_a_line_and_an_exit_code(name, capfd, monkeypatch, default_handlers):
    number = getattr(signal, name)
    real = os.path.getsize
    monkeypatch.setattr(os.path, "getsize", lambda path: os.kill(os.getpid(), number) or real(path))
    assert cli.main(["inspect", str(FROZEN)]) == 128 + number
    output, errors = capfd.readouterr()
    want = "tf1xent: interrupted." if name == "SIGINT" else f"tf1xent: stopped by {name}."
    assert (output, errors) == ("", want + "\n")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_command_in_another_thread_leaves_signals_alone(capsys):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(cli.main(["inspect", str(FROZEN)])))
    thread.start()
    thread.join()
    assert codes == [0]


# What the demo writes to -------------------------------------------------------------------------


@pytest.fixture
def demo(capsys, monkeypatch):
    """Runs the demo's command, whose demo only says that it has begun."""
    runner = pytest.importorskip("tf1xent.demo.runner", reason="the extra `demo` is not installed")
    begun = []
    monkeypatch.setattr(runner, "run", lambda *args, **options: begun.append((args, options)))

    def run(*arguments):
        del begun[:]
        code = cli.main(["demo", *map(str, arguments)])
        assert len(begun) == (code == 0)
        return code, capsys.readouterr().err

    return run


@pytest.mark.parametrize("option", ["--output", "--json"])
def test_demo_checks_what_it_writes_before_it_starts(option, demo, tmp_path, monkeypatch):
    monkeypatch.chdir(str(tmp_path))
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(os.path.join("none", "file"))
    cases = {
        "": "must be a file",
        "folder": "must be a file",
        os.path.join("none", "file"): "must be in a folder that exists",
        "link": "must be in a folder that exists",
        "x" * 300: "must be a file that can be written.*name too long",
    }
    for path, message in cases.items():
        code, errors = demo(option, path)
        assert code == 2 and len(errors.splitlines()) == 1
        assert errors.startswith(f"tf1xent demo: `{option}` {message.split('.*')[0]}"), errors
        assert message.split(".*")[-1] in errors
    assert sorted(os.listdir(str(tmp_path))) == ["folder", "link"]


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="only Linux has /proc")
@pytest.mark.parametrize("option", ["--output", "--json"])
def test_demo_asks_the_system_whether_it_may_write(option, demo):
    """What nobody may create, root neither."""
    code, errors = demo(option, "/proc/tf1xent.png")
    assert code == 2 and f"`{option}` must be a file that can be written" in errors


def test_demo_leaves_what_is_there_until_it_has_something(demo, tmp_path):
    picture, figures = tmp_path / "demo.png", tmp_path / "demo.json"
    assert demo("--output", picture, "--json", figures) == (0, "")
    assert os.listdir(str(tmp_path)) == []
    picture.write_bytes(b"an older picture")
    assert demo("--output", picture, "--json", figures) == (0, "")
    assert picture.read_bytes() == b"an older picture"
    code, errors = demo("--output", picture, "--json", tmp_path / "." / "demo.png")
    assert (code, errors) == (2, "tf1xent demo: `--json` and `--output` must be two files.\n")
