"""Builds of the native library: found, checked, loaded; and what happens where that cannot be.

Most tests build small sources of their own with a stand-in for the compiler, a script that writes
what it is asked for; one library is compiled, linked and loaded for real.
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests import ROOT
from tf1xent import kernels
from tf1xent.errors import KernelsError
from tf1xent.kernels import building, cache, compiling, loading, self_test, sources

# Names the level that it was asked for, as a right self-test on a machine that has all would.
PASSES = ("-c", "import os; print('{\"level\": \"%s\"}' % os.environ['TF1XENT_KERNEL_LEVEL'])")

ROWS = """
namespace tf1xent_test { namespace TF1XENT_LEVEL {
float twice(float x) { return 2 * x; }
} }
"""
DISPATCH = """
#include <cstdlib>
#include <cstring>
namespace tf1xent_test { namespace baseline { float twice(float); } }
extern "C" __attribute__((visibility("default"))) const char* tf1xent_kernel_level() {
  return "baseline";
}
float tf1xent_test_twice(float x) { return tf1xent_test::baseline::twice(x); }
"""
OPS = """
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
float tf1xent_test_twice(float x);
REGISTER_OP("Tf1xentTestTwice").Input("x: float").Output("y: float");
struct Twice : tensorflow::OpKernel {
  explicit Twice(tensorflow::OpKernelConstruction* context) : OpKernel(context) {}
  void Compute(tensorflow::OpKernelContext* context) override {
    tensorflow::Tensor* y = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, context->input(0).shape(), &y));
    y->flat<float>()(0) = tf1xent_test_twice(context->input(0).flat<float>()(0));
  }
};
REGISTER_KERNEL_BUILDER(Name("Tf1xentTestTwice").Device(tensorflow::DEVICE_CPU), Twice);
"""

STAND_IN = """#!/bin/sh
case "$1" in
  --version) echo "stand-in compiler {name}"; exit ;;
  -dumpmachine) echo "some-machine"; exit ;;
esac
for output; do :; done
{action}
echo "made from $*" > "$output"
"""


def write_sources(folder, ops=OPS):
    """Write three sources into a folder; return its path."""
    folder.mkdir(exist_ok=True)
    for name, text in (("rows.cc", ROWS), ("dispatch.cc", DISPATCH), ("tensorflow_ops.cc", ops)):
        (folder / name).write_text(text)
    return str(folder)


def write_compiler(path, name="1.0", action=":"):
    """Write a stand-in for a compiler; `action` is what it does before it writes its output."""
    path.write_text(STAND_IN.format(name=name, action=action))
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Sources, with the cache beside them."""
    monkeypatch.setenv("TF1XENT_KERNEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    return write_sources(tmp_path / "sources")


@pytest.fixture
def compiler(tmp_path):
    return write_compiler(tmp_path / "compiler")


def build(folder, compiler=None, **options):
    options.setdefault("self_test", PASSES)
    options.setdefault("report", lambda line: None)
    return building.build_from(folder, compiler=compiler, **options)


def loader_of(folder):
    return loading.Loader(lambda: folder)


def refusal(call):
    """Return what the KernelsError of a call says."""
    with pytest.raises(KernelsError) as error:
        call()
    return str(error.value)


def in_cache():
    return sorted(os.listdir(cache.cache_folder()))


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
    assert self_test.keeps_subnormals()
    # What is loaded stays, whatever becomes of the cache.
    Path(path).rename(path + ".away")
    monkeypatch.setenv("TF1XENT_KERNEL_CACHE", cache_folder + "-elsewhere")
    assert loader.library() is found[0]
    assert loader.status()._replace(cache=cache_folder) == status


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
    root = str(ROOT)
    process = subprocess.run(
        command, env=dict(os.environ, PYTHONPATH=root), capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    # Loading is for processes of their own: the self-tests at the end of the build did it.
    found = cache.find(sources.current_target(sources.source_folder()))
    assert found.library in process.stdout.splitlines()[-1]
    assert "baseline" in found.record["tested_levels"]


# Where builds are, and which is found.


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


def test_a_record_that_names_something_else_is_never_loaded(folder, compiler):
    path = build(folder, compiler)
    record_path = Path(path).with_name("build.json")
    record = json.loads(record_path.read_text())
    for field in sources.Target._fields:
        record_path.write_text(json.dumps(dict(record, **{field: "other"})))
        message = refusal(loader_of(folder).library)
        assert f"is for another {field}: 'other'" in message
        assert message.endswith("Run: python -m tf1xent build-kernels --force")
    record_path.write_text(json.dumps(dict(record, tensorflow="2.99.0")))
    assert str(loader_of(folder).status()).startswith("native kernels: The native kernels cannot")


DAMAGES = {
    "changed library": lambda folder: (folder / cache.LIBRARY).open("ab").write(b"\n"),
    "no library": lambda folder: (folder / cache.LIBRARY).unlink(),
    "half a record": lambda folder: (folder / cache.RECORD).write_text('{"tensorflow": '),
    "another record": lambda folder: (folder / cache.RECORD).write_text("[]"),
    "no record": lambda folder: (folder / cache.RECORD).unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_build_is_not_loaded_and_is_built_again(folder, compiler, damage):
    path = build(folder, compiler)
    damage(Path(path).parent)
    loader = loader_of(folder)
    assert "The native kernels cannot be used: the " in refusal(loader.library)
    assert not loader.available()
    assert build(folder, compiler) == path
    assert cache.fault(os.path.dirname(path), sources.current_target(folder)) is None
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


SELF_TESTS = {
    "crash": ("import os; os.kill(os.getpid(), 11)", "was killed by SIGSEGV"),
    "fault": ("import sys; sys.exit('loss is wrong')", "failed:\n  loss is wrong"),
    "silence": ("pass", "did not end properly:"),
    "noise": ("print('[1, 2]')", "did not end properly:\n  [1, 2]"),
    "lower levels": ('print(\'{"level": "none"}\')', "found no level that works here"),
}


@pytest.mark.parametrize("program, says", SELF_TESTS.values(), ids=SELF_TESTS)
def test_a_library_that_fails_its_self_test(folder, compiler, program, says):
    assert says in refusal(lambda: build(folder, compiler, self_test=("-c", program)))
    assert in_cache() == []
    assert not loader_of(folder).available()


def test_levels_that_the_machine_lacks_are_not_tested(folder, compiler):
    lines = []
    lowest = ("-c", 'print(\'{"level": "baseline"}\')')
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


def wait_for(path):
    """Wait for a file that another process or thread makes."""
    for _ in range(1200):
        if os.path.exists(path):
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


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


def test_a_killed_build_leaves_nothing_that_is_loaded(folder, tmp_path, compiler):
    action = f"touch '{tmp_path}/waits'; until [ -e '{tmp_path}/stop' ]; do sleep 0.1; done; exit 1"
    endless = write_compiler(tmp_path / "endless", action=action)
    program = (
        "from tf1xent.kernels import building; "
        f"building.build_from({folder!r}, compiler={endless!r})"
    )
    root = str(ROOT)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=dict(os.environ, PYTHONPATH=root),
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


# The self-test, on the graph version in the place of the ops.


class GraphVersion:
    """The ops of the library, computed by TensorFlow's own."""

    @staticmethod
    def _loss(logits, labels, vectors=None, scale=None, of="logits"):
        """Return the loss, or a gradient of it, or the product of its Hessian with vectors."""
        precise = tf.float64 if logits.dtype == tf.float64 else tf.float32
        wide = tf.cast(logits, precise)
        if labels.dtype.is_integer:
            loss = tf1xent.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=wide)
        else:
            labels = tf.cast(labels, precise)
            loss = tf1xent.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=wide)
        if scale is None:
            return loss
        (gradient,) = tf.gradients(loss, wide if of == "logits" else labels, grad_ys=scale)
        if vectors is not None:
            (gradient,) = tf.gradients(gradient, wide, grad_ys=tf.cast(vectors, precise))
        return tf.cast(gradient, logits.dtype)

    def tf1xent_kernel_sparse_loss(self, logits, labels, precise, invalid_labels="raise"):
        assert invalid_labels == "raise"
        return self._loss(logits, labels), None

    def tf1xent_kernel_dense_loss(self, logits, labels, precise):
        return self._loss(logits, labels), None

    def tf1xent_kernel_sparse_gradient(self, logits, labels, scale, statistics):
        return self._loss(logits, labels, scale=scale)

    def tf1xent_kernel_dense_gradient(self, logits, labels, scale, statistics):
        return self._loss(logits, labels, scale=scale)

    def tf1xent_kernel_label_gradient(self, logits, labels, scale, statistics):
        return self._loss(logits, labels, scale=scale, of="labels")

    def tf1xent_kernel_sparse_hessian_product(self, logits, labels, vectors, scale):
        return self._loss(logits, labels, vectors, scale)

    def tf1xent_kernel_dense_hessian_product(self, logits, labels, vectors, scale):
        return self._loss(logits, labels, vectors, scale)


@pytest.fixture(scope="module")
def graph_results():
    cases = [(shape, dtype) for shape in self_test.SHAPES[:3:2] for dtype in self_test.DTYPES]
    with tf.Graph().as_default(), tf.Session() as session:
        built = [
            self_test.with_ops(GraphVersion(), self_test.example(*shape), dtype)
            for shape, dtype in cases
        ]
        return [(dtype, *computed) for (_, dtype), computed in zip(cases, session.run(built))]


def test_the_self_test_passes_what_is_right(graph_results):
    for dtype, arguments, results in graph_results:
        assert self_test.faults(arguments, results, dtype) == {}


@pytest.mark.parametrize("name", self_test.Results._fields)
def test_the_self_test_finds_what_is_wrong(graph_results, name):
    off = {tf.float32: 1e-3, tf.float64: 1e-11, tf.half: 1e-2, tf.bfloat16: 0.1}
    for dtype, arguments, results in graph_results:
        value = getattr(results, name)
        last = value.copy()
        last.flat[-1] *= 1 + off[dtype]
        wrongs = [last, np.where(value == value.max(), np.nan, value)]
        if arguments.logits.shape[1] == 1:
            wrongs = wrongs[1:]  # of one class most are 0
        for wrong in wrongs:
            found = self_test.faults(arguments, results._replace(**{name: wrong}), dtype)
            assert list(found) == [name]


# The public names.


def test_public_names():
    assert kernels.IMPLEMENTATIONS == ("graph", "kernel", "auto")
    assert issubclass(KernelsError, RuntimeError)
    status = kernels.status()
    assert status.tensorflow == tf.version.VERSION
    assert status.loaded or status.reason
