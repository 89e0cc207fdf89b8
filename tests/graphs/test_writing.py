"""Rewritten files are written whole or not at all, and nothing else of theirs changes.

Root may write where others must not, so what depends on that runs in a child that is another user.
"""

import contextlib
import os
import resource
import shutil
import stat

import pytest

from tests.support.graph_files import (
    CLASSIFIER,
    FROZEN,
    SAVED_MODEL,
    check_refused,
    contents,
    copied,
    rewrite,
)
from tf1xent import cli, graphs

NOBODY = 65534


def mode(path):
    return stat.S_IMODE(os.stat(str(path)).st_mode)


BOTH = pytest.mark.parametrize("source", [FROZEN, SAVED_MODEL], ids=["file", "folder"])


# Modes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [0o600, 0o640, 0o444, 0o400, 0o755])
def test_a_file_has_the_mode_of_what_it_replaces_or_else_of_its_source(bits, tmp_path):
    source = copied(FROZEN, tmp_path / "old.pb")
    source.chmod(bits)
    target = tmp_path / "new.pb"
    previous = os.umask(0o022)
    try:
        assert rewrite(source, target) == 0
        assert mode(target) == bits & ~0o022
        target.chmod(bits)
        source.chmod(0o600)
        assert rewrite(source, target, "--force") == 0
        assert mode(target) == bits
        source.chmod(bits)
        assert rewrite(source, source, "--force") == 0
        assert mode(source) == bits
    finally:
        os.umask(previous)
    assert graphs.inspect_graph(source).ops == graphs.inspect_graph(target).ops == ()


def test_a_private_saved_model_stays_private(tmp_path):
    source = copied(SAVED_MODEL, tmp_path / "old")
    (source / "saved_model.pb").chmod(0o600)
    (source / "variables").chmod(0o500)
    source.chmod(0o700)
    for target, options in ((tmp_path / "new", ()), (source, ("--force",))):
        assert rewrite(source, target, *options) == 0
        assert mode(target) == 0o700
        assert mode(target / "saved_model.pb") == 0o600
        assert mode(target / "variables") == 0o500
    (tmp_path / "new").chmod(0o750)
    assert rewrite(SAVED_MODEL, tmp_path / "new", "--force") == 0
    assert mode(tmp_path / "new") == 0o750


def test_what_is_private_is_so_from_its_first_byte(tmp_path, monkeypatch):
    """Seen where the file is complete and about to get its name."""
    seen = []

    def looking(move):
        return lambda old, new: (seen.append(mode(old)), move(old, new))

    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, looking(getattr(os, name)))
    source = copied(FROZEN, tmp_path / "old.pb")
    source.chmod(0o600)
    assert rewrite(source, tmp_path / "new.pb") == 0
    model = copied(SAVED_MODEL, tmp_path / "old")
    model.chmod(0o700)
    assert rewrite(model, tmp_path / "new") == 0
    assert seen == [0o600, 0o700]


def as_nobody(function):
    """Runs a function in a child of the process that must not write where its user may not."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            function()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture
def open_folder(tmp_path):
    """A folder that everybody reaches and may write to."""
    folder = tmp_path / "open"
    folder.mkdir()
    for path in (folder, *folder.parents):
        if os.stat(str(path)).st_uid == os.geteuid():
            path.chmod(mode(path) | 0o011)
    folder.chmod(0o777)
    return folder


def read_only(path):
    for inner in [path, *path.rglob("*")]:
        inner.chmod(0o555 if inner.is_dir() else 0o444)


@BOTH
def test_read_only_inputs_and_targets(source, open_folder):
    """Of a user whom modes bind: what is read only is read, and replaced where that is forced."""
    # Loaded before the child gives up its rights to read where this TensorFlow is.
    assert rewrite(source, open_folder / ("warm" + source.suffix)) == 0

    def check():
        old, new = (open_folder / (name + source.suffix) for name in ("old", "new"))
        copied(source, old)
        read_only(old)
        assert rewrite(old, new) == 0
        assert contents(open_folder / ("warm" + source.suffix)) == contents(new)
        assert mode(new) == mode(old)
        read_only(new)
        assert rewrite(old, new) == 2
        assert rewrite(old, new, "--force") == 0
        assert not list(open_folder.glob("*.partial"))
        assert graphs.inspect_graph(new).ops == ()
        # A folder that must not be written to is not, by force either.
        locked = open_folder / "locked"
        locked.mkdir()
        copied(source, locked / old.name)
        locked.chmod(0o555)
        before = contents(locked)
        assert rewrite(old, locked / "other.pb") == 2
        assert rewrite(old, locked / old.name, "--force") == 2
        if source.is_dir():
            assert rewrite(old, old, "--force") == 2
        else:
            old.chmod(0)
            assert rewrite(old, new, "--force") == 2
        assert contents(locked) == before

    as_nobody(check)


# Links -------------------------------------------------------------------------------------------


def test_links_to_the_parent_folder(tmp_path, capsys):
    home = tmp_path / "home"
    home.mkdir()
    model = copied(SAVED_MODEL, home / "model")
    (tmp_path / "link").symlink_to(home)
    for target in (tmp_path / "link", tmp_path / "link" / "model" / "new"):
        check_refused(capsys, model, target, "--force", message="inside", folder=tmp_path)
    # In the model itself: they are not followed round and round.
    (model / "assets").mkdir()
    (model / "assets" / "up").symlink_to(os.path.join(os.pardir, os.pardir))
    (model / "me").symlink_to(os.curdir)
    assert rewrite(model, tmp_path / "new") == 0
    assert contents(tmp_path / "new").keys() == contents(model).keys()
    assert os.readlink(str(tmp_path / "new" / "me")) == os.curdir


def test_what_links_lead_to_is_copied(tmp_path):
    model = copied(SAVED_MODEL, tmp_path / "model")
    (tmp_path / "store").mkdir()
    for name in ("variables", "saved_model.pb"):
        (model / name).rename(tmp_path / "store" / name)
        (model / name).symlink_to(os.path.join(os.pardir, "store", name))
    (model / "gone").symlink_to("nowhere")
    assert rewrite(model, tmp_path / "new") == 0
    shutil.rmtree(str(tmp_path / "store"))
    got, want = contents(tmp_path / "new"), contents(SAVED_MODEL)
    assert got.pop("gone") == "nowhere"
    assert got.keys() == want.keys() and not (tmp_path / "new" / "saved_model.pb").is_symlink()
    assert all(got[name] == want[name] for name in want if name != "saved_model.pb")


@BOTH
def test_dangling_links_are_something_that_is_there(source, tmp_path, capsys):
    link, real = tmp_path / ("link" + source.suffix), tmp_path / ("real" + source.suffix)
    link.symlink_to(real.name)
    check_refused(capsys, source, link, message="exists already", folder=tmp_path)
    assert rewrite(source, link, "--force") == 0
    assert link.is_symlink() and graphs.inspect_graph(real).ops == ()
    lost = tmp_path / "lost"
    lost.symlink_to(os.path.join("none", "new"))
    check_refused(capsys, source, lost, "--force", message="does not exist", folder=tmp_path)
    assert cli.main(["inspect", str(lost)]) == 2
    assert capsys.readouterr().err == f"tf1xent inspect: {lost}: No such file or directory.\n"
    ring = tmp_path / "ring"
    ring.symlink_to("ring")
    check_refused(capsys, source, ring, "--force", message="neither a file nor a", folder=tmp_path)


def test_what_is_no_file_is_not_overwritten(tmp_path, capsys):
    os.mkfifo(str(tmp_path / "pipe"))
    assert cli.main(["inspect", str(tmp_path / "pipe")]) == 2
    assert capsys.readouterr().err.endswith("pipe must be a file or folder, got neither.\n")
    for target in (tmp_path / "pipe", "/dev/null"):
        check_refused(capsys, FROZEN, target, "--force", message="neither", folder=tmp_path)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert stat.S_ISFIFO(os.stat(str(tmp_path / "pipe")).st_mode)


# Names -------------------------------------------------------------------------------------------


@BOTH
def test_names_of_255_bytes(source, tmp_path, capsys):
    name = "é" * ((255 - len(source.suffix)) // 2)
    name += "x" * (255 - len((name + source.suffix).encode())) + source.suffix
    assert len(name.encode()) == 255
    for options in ((), ("--force",)):
        assert rewrite(source, tmp_path / name, *options) == 0
    assert rewrite(tmp_path / name, tmp_path / name, "--force") == 0
    assert os.listdir(str(tmp_path)) == [name]
    message = "name too long"
    check_refused(capsys, source, tmp_path / ("x" + name), message=message, folder=tmp_path)


@BOTH
def test_names_that_are_no_text(source, tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9" + source.suffix.encode())
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    old, new = folder / name, folder / ("new" + name)
    copied(source, old)
    if source.is_dir():
        (old / os.fsdecode(b"\xe9")).write_bytes(b"kept")
    assert rewrite(old, new) == 0
    assert rewrite(new, new, "--force") == 0
    assert contents(new).keys() == contents(old).keys()
    for options in ((), ("--json",), ("--wide",)):
        assert cli.main(["inspect", str(old), *options]) == 0
    assert "caf\\udce9" in capsys.readouterr().out
    assert rewrite(old, new) == 2
    assert "caf\\udce9" in capsys.readouterr().err


def test_checkpoints_whose_names_are_no_text(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    shutil.copytree(str(CLASSIFIER), str(folder))
    assert graphs.inspect_graph(folder).ops


# A disk that is full -----------------------------------------------------------------------------


@contextlib.contextmanager
def largest_file(size):
    """Lets no file grow beyond a size, for root either."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@BOTH
@pytest.mark.parametrize("is_there", [False, True], ids=["new", "forced"])
def test_a_full_disk_leaves_everything_as_it_was(source, is_there, tmp_path, capsys):
    target = tmp_path / source.name
    if is_there:
        copied(source, target)
    before = contents(tmp_path)
    # Room for the variables and not for the graphs; for neither.
    for size in (3000, 10):
        for path in [source, target] if is_there else [source]:
            with largest_file(size):
                code = rewrite(path, target, "--force")
            errors = capsys.readouterr().err
            assert code == 2 and contents(tmp_path) == before
            assert errors.startswith(f"tf1xent rewrite: {target}"), errors
            assert errors.endswith(": File too large.\n") and len(errors.splitlines()) == 1
