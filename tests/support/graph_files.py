"""Graph files of the corpus, and the command that rewrites them, for tests of files and folders."""

import os
import re
import shutil

from tests.corpus.reading import FILES
from tf1xent import cli

FOLDER = FILES / "tf115"
FROZEN = FOLDER / "frozen" / "frozen.pb"
CLASSIFIER = FOLDER / "classifier"
META = CLASSIFIER / "model.meta"
SAVED_MODEL = FOLDER / "estimator" / "saved_model"


def rewrite(source, target, *options):
    """Runs the command in the mode "logsumexp"; returns its exit code."""
    paths = os.fspath(source), os.fspath(target)
    return cli.main(["rewrite", *paths, "--mode", "logsumexp", *options])


def contents(folder):
    """Everything below a folder: bytes of files, text of links, None for folders."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(str(path))
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def copied(source, target):
    """A copy of a file or folder."""
    copy = shutil.copytree if source.is_dir() else shutil.copy
    copy(str(source), str(target))
    return target


def check_refused(capture, source, target, *options, message, folder):
    """Exit code 2 and a line that holds `message`, with the command once; `folder` is as it was."""
    before = contents(folder)
    assert rewrite(source, target, *options) == 2
    output, errors = capture.readouterr()
    assert output == "" and len(errors.splitlines()) == 1, errors
    assert message in errors and ".partial" not in errors, errors
    assert errors.count("tf1xent rewrite:") == 1
    assert contents(folder) == before


def check_damaged_is_refused(source, mode, capsys, message=""):
    """On the command line: one line that names the file `source`, and every file as it was."""
    target = source.parent / ("target" + source.suffix)
    target.write_bytes(b"as it was")
    before = contents(source.parent)
    code = cli.main(["rewrite", str(source), str(target), "--mode", mode, "--force"])
    output, errors = capsys.readouterr()
    assert (code, output) == (2, "")
    assert len(errors.splitlines()) == 1 and str(source) in errors, errors
    assert re.search(message, errors), errors
    assert contents(source.parent) == before
    assert not list(source.parent.glob("*.partial"))
