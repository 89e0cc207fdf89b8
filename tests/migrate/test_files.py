"""Files and folders: which are found, that each is whole, and that one does not stop the others."""

import os
import stat

import pytest

from tf1xent.migrate import files
from tf1xent.migrate.files import find_files, migrate_files
from tf1xent.migrate.finding import Options
from tf1xent.migrate.source import Fault
from tf1xent.migrate.writing import replace_content

BEFORE = (
    "import tensorflow as tf\n"
    "loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)\n"
)
AFTER = BEFORE.replace("tf\n", "tf\nimport tf1xent\n").replace("tf.nn", "tf1xent.nn")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, in which the test is."""
    monkeypatch.chdir(str(tmp_path))
    return tmp_path


def make(*paths, text=BEFORE):
    """Makes files, with their folders."""
    for path in paths:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w") as file:
            file.write(text)


# Which files -------------------------------------------------------------------------------------


def test_modules_and_notebooks_of_folders_are_found_in_order(folder):
    make("b.py", "a/z.py", "a/c.ipynb", "a/b/c/d.py", "a.txt", "c.pyc", "d.pyi", "README")
    assert find_files(["."]) == (["b.py", "a/c.ipynb", "a/z.py", "a/b/c/d.py"], [])
    assert find_files(["a"])[0] == ["a/c.ipynb", "a/z.py", "a/b/c/d.py"]


def test_installed_and_hidden_folders_are_left_out_unless_they_are_named(folder):
    inner = ["env/lib/x.py", "conda/x.py", "lib/site-packages/x.py", "a/__pycache__/x.py"]
    hidden = [".git/x.py", "a/.ipynb_checkpoints/x.ipynb", "a/.x.py", "node_modules/x.py"]
    make("a/x.py", "env/pyvenv.cfg", "conda/conda-meta/x", *inner, *hidden)
    assert find_files(["."])[0] == ["a/x.py"]
    assert find_files([".git", "env", "lib/site-packages", "a/.x.py"])[0] == [
        ".git/x.py",
        "env/lib/x.py",
        "lib/site-packages/x.py",
        "a/.x.py",
    ]


def test_a_file_is_taken_once(folder):
    make("a/x.py", "a/y.py")
    os.symlink("x.py", "a/z.py")
    os.symlink("a", "b")
    os.symlink("..", "a/up")
    os.symlink("nowhere", "a/broken.py")
    assert find_files(["a/y.py", "a", "b", "a/../a/x.py"])[0] == ["a/y.py", "a/x.py"]
    assert find_files(["b"])[0] == ["b/x.py", "b/y.py"]


def test_a_named_file_is_taken_whatever_it_is_called(folder):
    make("script", "x.py")
    os.mkdir("folder.py")
    assert find_files(["script"])[0] == ["script"]
    assert find_files(["."])[0] == ["x.py"]
    with pytest.raises(FileNotFoundError):
        find_files(["x.py", "gone"])


# Several processes -------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_outcomes_are_in_order_and_one_does_not_stop_the_others(jobs, folder):
    paths = [f"{number:02}.py" for number in range(30)]
    make(*paths)
    make("03.py", text=BEFORE + "print loss\n")
    make("11.py", text=BEFORE + "x = = 1\n")
    make("12.py", text="x = 1\n")
    os.remove("17.py")
    outcomes = list(migrate_files(paths, Options(), jobs))
    assert [outcome.path for outcome in outcomes] == paths
    faults = {outcome.path: outcome.fault for outcome in outcomes if outcome.fault}
    assert sorted(faults) == ["03.py", "11.py", "17.py"]
    assert (faults["03.py"].message, faults["03.py"].line) == ("is Python 2: a print statement", 3)
    assert faults["11.py"].line == 3
    assert faults["17.py"].message == "cannot be read: No such file or directory"
    for outcome in outcomes:
        changes = outcome.path not in faults and outcome.path != "12.py"
        assert outcome.changes == changes
        assert outcome.after == (AFTER.encode() if changes else None)
        assert len(outcome.findings) == changes


def test_a_process_that_is_killed_costs_its_file_only(folder, monkeypatch):
    paths = [f"{number:02}.py" for number in range(20)]
    make(*paths)
    make("05.py", text=BEFORE + "# kills\n")
    real = files.migrate_content

    def kills(content, is_notebook, options):
        if content.endswith(b"# kills\n"):
            os._exit(1)
        return real(content, is_notebook, options)

    monkeypatch.setattr(files, "migrate_content", kills)  # processes are forked on Linux
    if files.multiprocessing.get_start_method() != "fork":
        pytest.skip("a process that is not forked does not see what is replaced here")
    outcomes = list(migrate_files(paths, Options(), 2))
    assert [outcome.path for outcome in outcomes] == paths
    assert [outcome.path for outcome in outcomes if outcome.fault] == ["05.py"]
    assert all(outcome.changes for outcome in outcomes if not outcome.fault)


def test_processes_end_when_nobody_wants_more(folder):
    paths = [f"{number:03}.py" for number in range(200)]
    make(*paths)
    outcomes = migrate_files(paths, Options(), 2)
    assert next(outcomes).path == "000.py"
    outcomes.close()
    assert files.multiprocessing.active_children() == []


# Writing -----------------------------------------------------------------------------------------


def test_a_file_is_replaced_with_its_mode(folder):
    make("x.py")
    for mode in (0o600, 0o644, 0o755, 0o4750):
        os.chmod("x.py", mode)
        replace_content("x.py", BEFORE.encode(), AFTER.encode())
        assert stat.S_IMODE(os.stat("x.py").st_mode) == mode
        replace_content("x.py", AFTER.encode(), BEFORE.encode())
    assert os.listdir(".") == ["x.py"]


def test_a_link_stays_and_its_target_is_written(folder):
    make("a/x.py")
    os.symlink(os.path.join("a", "x.py"), "link.py")
    replace_content("link.py", BEFORE.encode(), AFTER.encode())
    assert os.path.islink("link.py") and not os.path.islink("a/x.py")
    with open("a/x.py") as file:
        assert file.read() == AFTER
    assert sorted(os.listdir(".") + os.listdir("a")) == ["a", "link.py", "x.py"]


def fault(path, old=BEFORE):
    with pytest.raises(Fault) as caught:
        replace_content(path, old.encode(), AFTER.encode())
    return caught.value.message


def test_a_file_that_may_not_be_written_is_left_as_it_is(folder):
    make("x.py", "gone.py")
    os.remove("gone.py")
    assert fault("gone.py") == "cannot be written: No such file or directory"
    assert fault("x.py", "other").startswith("was changed by somebody else")
    os.chmod("x.py", 0o444)
    assert fault("x.py") == "cannot be written: it is read-only"
    with open("x.py") as file:
        assert file.read() == BEFORE
    assert fault("/dev/null") == "cannot be written: it is no regular file"
    assert os.listdir(".") == ["x.py"]


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_half_written(step, error, folder, monkeypatch):
    make("x.py")

    def fail(*arguments, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        if isinstance(error, OSError):
            assert fault("x.py") == "cannot be written: No space left on device"
        else:
            with pytest.raises(KeyboardInterrupt):
                replace_content("x.py", BEFORE.encode(), AFTER.encode())
    with open("x.py") as file:
        assert file.read() == BEFORE
    assert os.listdir(".") == ["x.py"]
