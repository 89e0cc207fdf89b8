"""Small sources of a library, a stand-in for the compiler, and ways to build with them.

The stand-in is a script that writes what it is asked for. So a build takes no time, and what it
makes is no library.
"""

import os
import time

import pytest

from tf1xent.errors import KernelsError
from tf1xent.kernels import building, cache, loading

# Names the levels that it was asked for, as a right self-test on a machine that has all would.
PASSES = ("-c", 'import sys; [print(\'{"level": "%s"}\' % name) for name in sys.argv[2:]]')

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
    """Return the folders of builds, whole or not."""
    return sorted(name for name in os.listdir(cache.cache_folder()) if name != cache.OBJECTS)


def wait_for(path):
    """Wait for a file that another process or thread makes."""
    for _ in range(1200):
        if os.path.exists(path):
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")
