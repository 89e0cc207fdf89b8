"""The folder of builds: where they are, which is found, and what is done about damage."""

import json
import os
from pathlib import Path

import pytest
import tensorflow.compat.v1 as tf

from tests.kernels.fake_builds import build, in_cache, loader_of, refusal, write_compiler
from tf1xent.kernels import cache, compiling, sources


def test_a_build_is_found_again(folder, compiler):
    lines = []
    path = build(folder, compiler, report=lines.append)
    assert lines[-1].endswith(path)
    made = os.stat(path)
    assert build(folder, compiler) == build(folder) == path
    assert os.stat(path).st_ino == made.st_ino
    assert len(in_cache()) == 1
    assert sorted(os.listdir(os.path.dirname(path))) == ["build.json", "libtf1xent_kernels.so"]
    assert cache.find(sources.current_target(folder)).library == path


def test_a_build_is_for_whom_the_users_files_are(folder, compiler, tmp_path):
    (tmp_path / "folder").mkdir()
    place = Path(build(folder, compiler)).parent
    assert place.stat().st_mode == (tmp_path / "folder").stat().st_mode


def test_force_builds_again(folder, compiler):
    path = build(folder, compiler)
    made = os.stat(path).st_ino
    with open(path, "rb") as loaded_by_another:
        assert build(folder, compiler, force=True) == path
        assert os.stat(path).st_ino != made
        assert loaded_by_another.read()
    assert len(in_cache()) == 1


def test_compilers_have_builds_of_their_own(folder, tmp_path, compiler):
    other = write_compiler(tmp_path / "other", name="2.0")
    paths = {build(folder, compiler), build(folder, other)}
    assert len(paths) == len(in_cache()) == 2


def test_sources_have_builds_of_their_own(folder, compiler, tmp_path):
    path = build(folder, compiler)
    (tmp_path / "sources" / "rows.h").write_text("// one more header\n")
    assert "not built for TensorFlow" in refusal(loader_of(folder).library)
    assert build(folder, compiler) != path


@pytest.mark.parametrize("field", sources.Target._fields)
def test_a_build_for_something_else_is_never_loaded(folder, compiler, monkeypatch, field):
    path = build(folder, compiler)
    target = sources.current_target(folder)
    other = target._replace(**{field: ["other"] if field == "recipe" else "other"})
    monkeypatch.setattr(sources, "current_target", lambda _: other)
    message = refusal(loader_of(folder).library)
    assert message.startswith(f"The native kernels are not built for TensorFlow {other.tensorflow}")
    assert message.endswith("Run: python -m tf1xent build-kernels")
    assert str(loader_of(folder).status()).startswith("native kernels: The native kernels are not")
    monkeypatch.setattr(sources, "current_target", lambda _: target)
    assert loader_of(folder).status().path == path


def test_the_record_says_what_a_build_is_for(folder, compiler):
    record = json.loads(Path(build(folder, compiler)).with_name("build.json").read_text())
    target = sources.current_target(folder)
    assert {name: record[name] for name in target._fields} == target._asdict()


def test_builds_for_several_tensorflows_share_what_includes_none(folder, compiler, monkeypatch):
    target = sources.current_target(folder)
    architecture = target.architecture

    def taken(**options):
        lines = []
        build(folder, compiler, report=lines.append, **options)
        return [line.split()[1] for line in lines if line.startswith("Taking ")]

    assert taken() == []
    products = {step.product for step in compiling.steps(architecture, [])}
    others = [target._replace(tensorflow=version) for version in ("9.0", "9.1", "9.2")]
    monkeypatch.setattr(sources, "current_target", lambda _: others[0])
    assert set(taken()) == products - {"tensorflow_ops.o"}
    assert taken(force=True) == []
    monkeypatch.setattr(sources, "current_target", lambda _: others[1]._replace(sources="changed"))
    assert taken() == []
    # A day later they are gone.
    objects = Path(cache.cache_folder(), cache.OBJECTS)
    for path in objects.iterdir():
        os.utime(str(path), (0, 0))
    monkeypatch.setattr(sources, "current_target", lambda _: others[2])
    assert taken() == []
    assert len(in_cache()) == 4


DAMAGES = {
    "changed library": lambda folder: (folder / cache.LIBRARY).open("ab").write(b"\n"),
    "no library": lambda folder: (folder / cache.LIBRARY).unlink(),
    "half a record": lambda folder: (folder / cache.RECORD).write_text('{"tensorflow": '),
    "another record": lambda folder: (folder / cache.RECORD).write_text("[]"),
    "no record": lambda folder: (folder / cache.RECORD).unlink(),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_build_is_not_loaded_and_is_built_again(folder, compiler, damage):
    path = build(folder, compiler)
    damage(Path(path).parent)
    loader = loader_of(folder)
    assert "The native kernels cannot be used: the " in refusal(loader.library)
    assert not loader.available()
    assert build(folder, compiler) == path
    assert cache.read(os.path.dirname(path)).library == path
    assert len(in_cache()) == 1


def test_a_load_that_failed_is_tried_again(folder, compiler):
    loader = loader_of(folder)
    assert not loader.available()
    message = refusal(loader.library)
    assert f"TensorFlow {tf.version.VERSION}" in message
    assert cache.cache_folder() in message
    assert message.endswith("Run: python -m tf1xent build-kernels")
    build(folder, compiler)
    # What the stand-in makes is no library; that it is looked at shows the second try.
    assert "TensorFlow cannot load the native kernels of" in refusal(loader.library)


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TF1XENT_KERNEL_CACHE", os.path.join("~", "mine"))
    assert cache.cache_folder() == str(tmp_path / "mine")
    monkeypatch.setenv("TF1XENT_KERNEL_CACHE", "")
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == str(tmp_path / "xdg" / "tf1xent")
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache.cache_folder() == str(tmp_path / ".cache" / "tf1xent")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert cache.cache_folder() == str(tmp_path / "Library" / "Caches" / "tf1xent")
