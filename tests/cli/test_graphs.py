"""`tf1xent inspect` and `tf1xent rewrite`: what they print, write, leave alone, and exit with."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import tensorflow.compat.v1 as tf
from google.protobuf import text_format

from tests.corpus.reading import FILES
from tests.support.processes import run_forked
from tf1xent import cli, graphs

FOLDER = FILES / "tf115"
FROZEN = FOLDER / "frozen" / "frozen.pb"
FROZEN_TEXT = FOLDER / "frozen" / "frozen.pbtxt"
CLASSIFIER = FOLDER / "classifier"
SAVED_MODEL = FOLDER / "estimator" / "saved_model"
# Of 1.13: newer graphs may hold what text written by 1.13 cannot.
FUNCTIONS = FILES / "tf113" / "defun" / "model.meta"


def contents(folder):
    """Everything below a folder: the bytes of files, None for folders."""
    paths = Path(folder).rglob("*")
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


def run(capsys, *arguments):
    """Runs the command; returns its exit code, output and errors."""
    code = cli.main([str(argument) for argument in arguments])
    output, errors = capsys.readouterr()
    return code, output, errors


def check_refused(capsys, *arguments, message):
    """Exit code 2, a line on stderr that matches `message`, nothing on stdout."""
    code, output, errors = run(capsys, *arguments)
    assert (code, output) == (2, ""), errors
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith(f"tf1xent {arguments[0]}: ")
    assert re.search(message, errors), errors


# inspect -----------------------------------------------------------------------------------------

SOURCES = {
    "graph_def": FROZEN,
    "text": FROZEN_TEXT,
    "meta": CLASSIFIER / "model.meta",
    "prefix": CLASSIFIER / "model",
    "checkpoint folder": CLASSIFIER,
    "saved model": SAVED_MODEL,
    "functions": FUNCTIONS,
}


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_inspect_prints_the_report_as_a_table_or_as_json(name, capsys):
    report = graphs.inspect_graph(SOURCES[name])
    assert report.ops
    assert run(capsys, "inspect", SOURCES[name]) == (0, f"{report}\n", "")
    code, output, errors = run(capsys, "inspect", SOURCES[name], "--json")
    assert (code, errors) == (0, "")
    assert output == report.to_json() + "\n"
    found = json.loads(output)
    assert [op["name"] for op in found["ops"]] == [op.name for op in report.ops]
    assert [op["verdict"] for op in found["ops"]] == [op.verdict.value for op in report.ops]


@pytest.mark.parametrize("name", sorted(SOURCES))
@pytest.mark.parametrize("options", [(), ("--json",)], ids=str)
def test_inspect_check_exits_with_1_where_something_needs_a_rewrite(name, options, capsys):
    needs = graphs.inspect_graph(SOURCES[name]).needs_rewrite
    assert needs == (name == "functions")
    code, output, errors = run(capsys, "inspect", SOURCES[name], "--check", *options)
    assert (code, errors) == (int(needs), "")
    assert output


def test_inspect_check_is_content_after_a_rewrite(tmp_path, capsys):
    for mode in ("tag", "logsumexp"):
        target = tmp_path / f"{mode}.meta"
        assert run(capsys, "rewrite", FUNCTIONS, target, "--mode", mode) == (0, "", "")
        assert graphs.inspect_graph(target).to_json() != graphs.inspect_graph(FUNCTIONS).to_json()
    assert run(capsys, "inspect", tmp_path / "logsumexp.meta", "--check")[0] == 0


@pytest.mark.parametrize("options", [(), ("--json",), ("--check",)], ids=str)
def test_inspect_of_what_cannot_be_read_exits_with_2(options, tmp_path, capsys):
    (tmp_path / "damaged.pb").write_bytes(FROZEN.read_bytes()[:-1])
    (tmp_path / "empty").mkdir()
    for name in ("damaged.pb", "missing.pb", "empty"):
        path = tmp_path / name
        check_refused(capsys, "inspect", path, *options, message=re.escape(str(path)))


# rewrite -----------------------------------------------------------------------------------------


def serialized(proto):
    """The bytes of a proto, which may hold NaN and so not equal itself."""
    return proto.SerializeToString(deterministic=True)


def rewritten_proto(path, mode):
    """What the Python functions make of a GraphDef or MetaGraphDef."""
    if path.suffix == ".meta":
        return graphs.rewrite_meta_graph(path, mode)
    return graphs.rewrite_graph_def(tf.GraphDef.FromString(FROZEN.read_bytes()), mode)


@pytest.mark.parametrize("mode", ["logsumexp", "tag", "untag"])
def test_rewrite_writes_what_the_functions_return(mode, tmp_path, capsys):
    for source in (FROZEN, FROZEN_TEXT, FUNCTIONS):
        want = rewritten_proto(source, mode)
        before = source.read_bytes()
        for target in (tmp_path / f"new-{source.name}", tmp_path / f"{source.name}.new.pbtxt"):
            assert run(capsys, "rewrite", source, target, "--mode", mode) == (0, "", "")
            assert target.read_bytes()
            got = type(want)()
            if target.suffix == ".pbtxt":
                text_format.Parse(target.read_text(encoding="utf-8"), got)
            else:
                got.ParseFromString(target.read_bytes())
            assert serialized(got) == serialized(want)
        assert source.read_bytes() == before


def test_rewriting_twice_writes_the_same_bytes(tmp_path, capsys):
    for mode in ("logsumexp", "tag"):
        names = [tmp_path / f"{mode}{number}.meta" for number in range(3)]
        for source, target in zip([FUNCTIONS, FUNCTIONS, names[0]], names):
            assert run(capsys, "rewrite", source, target, "--mode", mode) == (0, "", "")
        assert len({name.read_bytes() for name in names}) == 1


@pytest.mark.parametrize("source", [CLASSIFIER, CLASSIFIER / "model"], ids=["folder", "prefix"])
def test_a_checkpoint_stands_for_its_meta_file(source, tmp_path, capsys):
    target = tmp_path / "new.meta"
    assert run(capsys, "rewrite", source, target, "--mode", "logsumexp") == (0, "", "")
    want = graphs.rewrite_meta_graph(CLASSIFIER / "model.meta")
    assert serialized(tf.MetaGraphDef.FromString(target.read_bytes())) == serialized(want)
    assert os.listdir(str(tmp_path)) == ["new.meta"]


def test_a_saved_model_is_written_whole(tmp_path, capsys):
    target = tmp_path / "model"
    assert run(capsys, "rewrite", SAVED_MODEL, target, "--mode", "logsumexp") == (0, "", "")
    assert os.listdir(str(tmp_path)) == ["model"]
    graphs.rewrite_saved_model(SAVED_MODEL, tmp_path / "want")
    got, want = contents(target), contents(tmp_path / "want")
    assert list(got.values()) == list(want.values())
    assert graphs.inspect_graph(target).ops == ()


@pytest.mark.parametrize("source", [FROZEN, SAVED_MODEL], ids=["file", "folder"])
def test_what_is_there_is_overwritten_by_force_only(source, tmp_path, capsys):
    target = tmp_path / source.name
    command = ("rewrite", source, target, "--mode")
    assert run(capsys, *command, "tag") == (0, "", "")
    before = contents(tmp_path)
    check_refused(capsys, *command, "logsumexp", message=f"{source.name}.*--force")
    assert contents(tmp_path) == before
    assert graphs.inspect_graph(target).ops
    assert run(capsys, *command, "logsumexp", "--force") == (0, "", "")
    assert graphs.inspect_graph(target).ops == ()
    assert sorted(contents(tmp_path)) == sorted(before)


@pytest.mark.parametrize("source", [FROZEN, SAVED_MODEL], ids=["file", "folder"])
def test_in_may_be_out_by_force(source, tmp_path, capsys):
    path = tmp_path / source.name
    copy = shutil.copytree if source.is_dir() else shutil.copy
    copy(str(source), str(path))
    before = contents(tmp_path)
    command = ("rewrite", path, path, "--mode", "logsumexp")
    check_refused(capsys, *command, message="--force|inside")
    assert contents(tmp_path) == before
    assert run(capsys, *command, "--force") == (0, "", "")
    assert graphs.inspect_graph(path).ops == ()
    assert sorted(contents(tmp_path)) == sorted(before)


def test_out_must_not_be_inside_in(tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(str(SAVED_MODEL), str(model))
    before = contents(tmp_path)
    for target in (model / "new", model / "variables" / "new", model / "variables" / ".." / "new"):
        command = ("rewrite", model, target, "--mode", "tag")
        check_refused(capsys, *command, "--force", message="inside")
    assert contents(tmp_path) == before


def test_force_deletes_nothing_but_saved_models(tmp_path, capsys):
    home = tmp_path / "home"
    (home / "papers").mkdir(parents=True)
    (home / "papers" / "thesis").write_text("precious")
    shutil.copytree(str(SAVED_MODEL), str(home / "model"))
    before = contents(tmp_path)
    for source in (SAVED_MODEL, home / "model"):
        command = ("rewrite", source, home, "--mode", "tag", "--force")
        check_refused(capsys, *command, message=re.escape(str(home)))
        assert contents(tmp_path) == before


def test_in_and_out_must_be_of_one_kind(tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"as it was")
    before = contents(tmp_path)
    for source, name in ((FROZEN, "folder"), (SAVED_MODEL, "file")):
        command = ("rewrite", source, tmp_path / name, "--mode", "tag", "--force")
        check_refused(capsys, *command, message=name)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("source", [FROZEN, SAVED_MODEL], ids=["file", "folder"])
def test_what_is_not_there_exits_with_2(source, tmp_path, capsys):
    missing = tmp_path / "none" / "new"
    for force in ((), ("--force",)):
        for paths in ((source, missing), (missing, tmp_path / "new")):
            check_refused(capsys, "rewrite", *paths, "--mode", "tag", *force, message="none")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("arguments", [(), ("--mode", "stock"), ("--mode",)], ids=str)
def test_a_mode_is_needed(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_information:
        cli.main(["rewrite", str(FROZEN), str(tmp_path / "new"), *arguments])
    assert exit_information.value.code == 2
    assert "--mode" in capsys.readouterr().err
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "forced"])
@pytest.mark.parametrize("source", [FROZEN, SAVED_MODEL], ids=["file", "folder"])
def test_a_failed_write_leaves_everything_as_it_was(
    source, is_there, tmp_path, capsys, monkeypatch
):
    """The operating system fails at every call that puts the result in place."""
    target = tmp_path / source.name
    if is_there:
        assert run(capsys, "rewrite", source, target, "--mode", "tag") == (0, "", "")
    before = contents(tmp_path)
    replaced = ("replace",) if source is FROZEN else ("rename",)
    allowed = [0] if not is_there or source is FROZEN else [0, 1]
    for successes in allowed:
        calls = []

        def fail(old, new, real=os.rename, successes=successes, calls=calls):
            calls.append(new)
            if len(calls) == successes + 1:
                raise PermissionError(13, "Permission denied", str(new))
            return real(old, new)

        for name in replaced:
            monkeypatch.setattr(os, name, fail)
        command = ("rewrite", source, target, "--mode", "logsumexp", "--force")
        check_refused(capsys, *command, message="Permission denied")
        monkeypatch.undo()
        assert len(calls) > successes
        assert contents(tmp_path) == before


def test_files_have_the_modes_that_open_gives(tmp_path, capsys):
    previous = os.umask(0o027)
    try:
        run(capsys, "rewrite", FROZEN, tmp_path / "new.pb", "--mode", "tag")
        run(capsys, "rewrite", SAVED_MODEL, tmp_path / "model", "--mode", "tag")
    finally:
        os.umask(previous)
    assert (tmp_path / "new.pb").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "model" / "saved_model.pb").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("source", [FROZEN, SAVED_MODEL], ids=["file", "folder"])
def test_a_link_stays_a_link(source, tmp_path, capsys):
    real, link = tmp_path / ("real" + source.suffix), tmp_path / ("link" + source.suffix)
    os.symlink(str(real), str(link))
    command = ("rewrite", source, link, "--mode")
    assert run(capsys, "rewrite", source, real, "--mode", "tag") == (0, "", "")
    check_refused(capsys, *command, "logsumexp", message="--force")
    assert run(capsys, *command, "logsumexp", "--force") == (0, "", "")
    assert link.is_symlink() and not real.is_symlink()
    assert graphs.inspect_graph(real).ops == ()
    assert sorted(os.listdir(str(tmp_path))) == sorted([real.name, link.name])


def test_the_module_is_the_command():
    process = run_forked("-m", "tf1xent", "inspect", FUNCTIONS, "--check", "--json")
    assert process.returncode == 1, process.stderr
    assert process.stdout == graphs.inspect_graph(FUNCTIONS).to_json() + "\n"
