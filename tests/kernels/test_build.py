"""Builds of the native library: one for real, and how others are compiled and refused."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tensorflow.compat.v1 as tf

from tests.kernels.fake_builds import (
    build,
    in_cache,
    loader_of,
    refusal,
    wait_for,
    write_compiler,
    write_sources,
)
from tests.support import processes
from tf1xent import kernels
from tf1xent._math import kernel_self_test
from tf1xent.errors import KernelsError
from tf1xent.kernels import cache, compiling, loading, sources

# A library that is compiled, linked, and loaded.


@pytest.fixture(scope="session")
def real_build(tmp_path_factory):
    """(sources, cache, path) of a library with one op, built with a real compiler."""
    try:
        compiling.find_compiler()
    except KernelsError as error:
        pytest.skip(str(error))
    root = tmp_path_factory.mktemp("real")
    sources_folder = write_sources(root / "sources")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF1XENT_KERNEL_CACHE", str(root / "cache"))
        path = build(sources_folder)
    return sources_folder, str(root / "cache"), path


@pytest.mark.lengthy
def test_a_library_is_built_loaded_and_runs(real_build, monkeypatch):
    folder, cache_folder, path = real_build
    monkeypatch.setenv("TF1XENT_KERNEL_CACHE", cache_folder)
    loader = loader_of(folder)
    before = loader.status()
    assert (before.loaded, before.path, before.level) == (False, path, None)
    found = []
    threads = [threading.Thread(target=lambda: found.append(loader.library())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(module is found[0] for module in found)
    with tf.Graph().as_default(), tf.Session() as session:
        assert session.run(found[0].tf1xent_test_twice(tf.constant(21.0))) == 42
    status = loader.status()
    assert (status.loaded, status.path, status.level) == (True, path, "baseline")
    assert str(status).startswith("native kernels: loaded, level baseline\n")
    assert kernel_self_test.keeps_subnormals()
    # What is loaded stays, whatever becomes of the cache.
    Path(path).rename(path + ".away")
    monkeypatch.setenv("TF1XENT_KERNEL_CACHE", cache_folder + "-elsewhere")
    assert loader.library() is found[0]
    assert loader.status()._replace(cache=cache_folder) == status


@pytest.mark.lengthy
def test_sources_that_do_not_compile(folder, tmp_path, real_build):
    write_sources(tmp_path / "sources", ops="#error broken on purpose\n")
    message = refusal(lambda: build(folder))
    assert message.startswith("Compiling tensorflow_ops.cc to tensorflow_ops.o failed; ")
    assert "broken on purpose" in message
    assert in_cache() == []


@pytest.mark.exhaustive
def test_the_command_builds_the_kernels_or_finds_them(real_build):
    # In the matrix it ran before the tests: a build takes a minute there.
    command = [sys.executable, "-m", "tf1xent", "build-kernels"]
    process = subprocess.run(command, env=processes.environment(), capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    # Loading is for processes of their own: the self-tests at the end of the build did it.
    found = cache.find(sources.current_target(sources.source_folder()))
    assert found.library in process.stdout.splitlines()[-1]
    assert "baseline" in found.record["tested_levels"]


# Builds that cannot be, end early, or meet.


def test_no_compiler(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal(lambda: build(folder)).startswith("No C++ compiler: none of g++, clang++, c++")
    assert not os.path.exists(cache.cache_folder())


def test_a_compiler_that_does_not_run(folder, tmp_path, monkeypatch):
    missing = str(tmp_path / "missing")
    assert f"a command that runs, got '{missing}'" in refusal(lambda: build(folder, missing))
    monkeypatch.setenv("CXX", f"{missing} -pipe")
    assert f"a command that runs, got '{missing} -pipe'" in refusal(lambda: build(folder))


def test_the_compiler_of_the_environment(folder, compiler, monkeypatch):
    monkeypatch.setenv("CXX", f"env {compiler}")
    record = json.loads(Path(build(folder)).with_name("build.json").read_text())
    assert record["compiler"] == "stand-in compiler 1.0 some-machine"


def test_no_builds_on_windows(folder, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Windows")
    assert "cannot be built on Windows" in refusal(compiling.find_compiler)


@pytest.mark.parametrize("place", ["cache", "above"])
def test_a_cache_that_cannot_be_written(folder, compiler, tmp_path, monkeypatch, place):
    # A file in the place of a folder stops also those who may write everywhere.
    (tmp_path / place).write_text("")
    wanted = tmp_path / "cache" if place == "cache" else tmp_path / "above" / "cache"
    monkeypatch.setenv("TF1XENT_KERNEL_CACHE", str(wanted))
    message = refusal(lambda: build(folder, compiler))
    assert message.startswith(f"The cache folder {wanted} cannot be written (")
    assert "TF1XENT_KERNEL_CACHE" in message
    assert str(wanted) in refusal(loader_of(folder).library)


def test_a_compiler_that_fails(folder, tmp_path):
    action = 'case "$output" in *dispatch.o) seq 1 100; echo "no space left" >&2; exit 1;; esac'
    failing = write_compiler(tmp_path / "failing", action=action)
    message = refusal(lambda: build(folder, failing))
    assert message.startswith("Compiling dispatch.cc to dispatch.o failed; ")
    assert message.splitlines()[-1] == "  no space left"
    assert len(message.splitlines()) == compiling.LAST_LINES + 1
    assert in_cache() == []


EACH_LEVEL = """import sys
line = '{{"level": "{}"}}'
for _ in sys.argv[2:]:
    print(line)
"""
SELF_TESTS = {
    "crash": ("import os; os.kill(os.getpid(), 11)", "was killed by SIGSEGV"),
    "fault": ("import sys; sys.exit('loss is wrong')", "failed:\n  loss is wrong"),
    "silence": ("pass", "did not end properly:"),
    "noise": ("print('[1, 2]')", "did not end properly:\n  [1, 2]"),
    "a level too many": (EACH_LEVEL.format("none") + "print(line)", "did not end properly:"),
    "lower levels": (EACH_LEVEL.format("none"), "found no level that works here"),
}


@pytest.mark.parametrize("program, says", SELF_TESTS.values(), ids=SELF_TESTS)
def test_a_library_that_fails_its_self_test(folder, compiler, program, says):
    assert says in refusal(lambda: build(folder, compiler, self_test=("-c", program)))
    assert in_cache() == []
    assert not loader_of(folder).available()


def test_levels_that_the_machine_lacks_are_not_tested(folder, compiler):
    lines = []
    lowest = ("-c", EACH_LEVEL.format("baseline"))
    path = build(folder, compiler, self_test=lowest, report=lines.append)
    assert json.loads(Path(path).with_name("build.json").read_text())["tested_levels"] == [
        "baseline"
    ]
    assert [line for line in lines if "Tested" in line] == ["Tested on the level baseline"]


def test_sources_that_change_while_they_compile(folder, tmp_path):
    action = f"echo '// more' >> '{folder}/rows.cc'"
    changing = write_compiler(tmp_path / "changing", action=action)
    assert "sources changed" in refusal(lambda: build(folder, changing))
    assert in_cache() == []


def test_two_builds_at_once(folder, tmp_path, compiler):
    # The same in all but that it waits, so that both builds belong in one place.
    action = f"touch '{tmp_path}/waits'; until [ -e '{tmp_path}/go' ]; do sleep 0.05; done"
    slow = write_compiler(tmp_path / "slow", action=action)
    paths = []
    thread = threading.Thread(target=lambda: paths.append(build(folder, slow)))
    thread.start()
    try:
        wait_for(str(tmp_path / "waits"))
        path = build(folder, compiler)
        made = os.stat(path).st_ino
    finally:
        (tmp_path / "go").write_text("")
        thread.join()
    assert paths == [path]
    assert os.stat(path).st_ino == made  # the first stays, and nothing of the second
    assert len(in_cache()) == 1


@pytest.mark.lengthy
def test_a_killed_build_leaves_nothing_that_is_loaded(folder, tmp_path, compiler):
    action = f"touch '{tmp_path}/waits'; until [ -e '{tmp_path}/stop' ]; do sleep 0.1; done; exit 1"
    endless = write_compiler(tmp_path / "endless", action=action)
    program = (
        "from tf1xent.kernels import building; "
        f"building.build_from({folder!r}, compiler={endless!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=processes.environment(),
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(str(tmp_path / "waits"))
    finally:
        process.kill()
        process.wait()
        (tmp_path / "stop").write_text("")
    left = in_cache()
    assert len(left) == 1
    assert left[0].startswith(cache.UNFINISHED)
    assert not loader_of(folder).available()
    build(folder, compiler)
    assert left[0] in in_cache()  # it may be another's that is at work
    long_ago = time.time() - 2 * cache.OLD_SECONDS
    os.utime(os.path.join(cache.cache_folder(), left[0]), (long_ago, long_ago))
    build(folder, compiler, force=True)
    assert len(in_cache()) == 1


# How it is compiled.


def test_no_flag_changes_floating_point_for_the_process_or_binds_to_this_machine():
    for architecture in ("x86_64", "aarch64"):
        text = "\n".join(compiling.recipe(architecture, ["-I/include"], ["-L/lib", "-lx"]))
        assert "fast-math" not in text
        assert "-march" not in text
        assert "-Ofast" not in text
        assert "/include" not in text and "/lib" not in text
        assert ("avx2" in text) == ("TF1XENT_X86" in text) == (architecture == "x86_64")


@pytest.mark.parametrize(
    "flags, added", [([], True), (["--std=c++17"], False), (["-std=x"], False)]
)
def test_the_standard_is_tensorflows_where_it_names_one(flags, added):
    step = compiling.steps("x86_64", flags)[0]
    assert ("-std=c++14" in step.flags) == added


def test_headers_of_tensorflow_are_system_headers():
    step = compiling.steps("x86_64", ["-I/some/where"])[0]
    assert "-isystem /some/where" in " ".join(step.flags)


def test_the_target_is_this_tensorflow():
    target = sources.current_target(str(Path(__file__).parent))
    assert target.tensorflow == tf.version.VERSION
    assert os.path.getsize(sources.framework_library()) > 1e6


def test_sources_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_PACKAGE", str(tmp_path / "tf1xent"))
    assert "has no sources" in refusal(sources.source_folder)
    assert not loading.Loader(sources.source_folder).available()
    write_sources(tmp_path / "ops")
    assert sources.source_folder() == str(tmp_path / "ops")
    (tmp_path / "tf1xent").mkdir()
    installed = write_sources(tmp_path / "tf1xent" / "ops")
    assert sources.source_folder() == installed


# The public names.


def test_public_names():
    assert kernels.IMPLEMENTATIONS == ("graph", "kernel", "auto")
    assert issubclass(KernelsError, RuntimeError)


def test_the_status_without_a_build_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("TF1XENT_KERNEL_CACHE", str(tmp_path))
    status = loading.Loader(sources.source_folder).status()
    assert (status.loaded, status.path, status.cache) == (False, None, str(tmp_path))
    assert status.reason == (
        f"The native kernels are not built for TensorFlow {tf.version.VERSION} and these sources "
        f"(none in {tmp_path}). Run: python -m tf1xent build-kernels"
    )
