"""`import tf1xent` is light, and the gradients that saved graphs name are there in either order."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests import ROOT
from tests.oracle import reference
from tests.routes import table
from tests.support.without_tensorflow import hide

# In each, the import that comes first, or imports the other, is another.
ORDERS = [
    "tensorflow,tf1xent",
    pytest.param("tf1xent,tensorflow", marks=pytest.mark.lengthy),
    pytest.param("tf1xent.kernels", marks=pytest.mark.exhaustive),
    pytest.param("tf1xent.gradients", marks=pytest.mark.lengthy),
    pytest.param("tf1xent._math.softmax", marks=pytest.mark.exhaustive),
]


def run_python(folder, *arguments):
    """Runs Python with a folder before the checkout on its path; returns what it prints."""
    paths = [str(folder), str(ROOT)]
    process = subprocess.run(
        [sys.executable, *arguments],
        cwd=str(folder),
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(paths), TF_CPP_MIN_LOG_LEVEL="3"),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def saved_graph(path):
    """Saves losses that name our gradients: TensorFlow's ops that do, and ours."""
    with tf.Graph().as_default() as graph:
        logits = tf.constant(table.LOGITS, name="logits")
        vectors = tf.constant(table.VECTORS[0], name="vectors")
        labels = tf.constant(table.LABELS)
        stock = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        tf1xent.override_gradients(graph)
        ours = tf1xent.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        focal = tf1xent.nn.weighted_sparse_softmax_cross_entropy_with_logits(
            labels, logits, focal_gamma=0.0, class_weights=tf.ones([4])
        )
        for tensor in (logits, vectors):
            tf.add_to_collection("inputs", tensor)
        for loss in (stock, ours, focal):
            tf.add_to_collection("losses", loss)
        tf.train.export_meta_graph(path)


ALL_MODULES = """
import importlib, pkgutil
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops
import tf1xent
for module in pkgutil.walk_packages(tf1xent.__path__, "tf1xent."):
    if module.name.split(".")[1] not in ("__main__", "demo"):
        importlib.import_module(module.name)
names = {name for name in ops._gradient_registry._registry if name.startswith("Tf1xent")}
print("names: " + " ".join(names))
"""


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """The gradient names of the whole package; in this process other tests may have added some."""
    output = run_python(tmp_path_factory.mktemp("all"), "-c", ALL_MODULES)
    return set(output.rsplit("names: ", 1)[1].split())


@pytest.mark.parametrize("order", ORDERS)
def test_a_saved_graph_works_after_both_imports(order, everything, tmp_path):
    graph, results = str(tmp_path / "model.meta"), str(tmp_path / "results.npz")
    saved_graph(graph)
    run_python(tmp_path, "-m", "tests.routes.import_order", order, graph, results)
    want = reference.Reference(table.LOGITS).derivative_product(table.VECTORS[:1])
    with np.load(results) as file:
        found = set(file["registered"].tolist())
        products = [file[f"product {number}"] for number in range(3)]
    # Probes register TensorFlow's own gradients too, under other names.
    assert {n for n in found if "Stock" not in n} == {n for n in everything if "Stock" not in n}
    for product in products:
        np.testing.assert_allclose(product, want.astype(np.float64), rtol=1e-5, atol=1e-6)


# Without TensorFlow ------------------------------------------------------------------------------


@pytest.fixture
def hidden(tmp_path):
    """A folder that makes Python find no TensorFlow."""
    return hide(tmp_path, "tensorflow")


def test_the_import_is_light_and_needs_no_tensorflow(hidden):
    """It imports nothing but the standard library, and of that little: `asyncio` would be slow."""
    program = (
        "import sys, threading, typing; before = set(sys.modules); import tf1xent; "
        "loaded = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(*sorted(loaded - {'importlib', 'tf1xent', 'warnings'}))"
    )
    assert run_python(hidden, "-c", program) == "\n"


def test_names_need_tensorflow_only_when_they_are_used(hidden):
    program = """
import tf1xent
assert tf1xent.__version__ and tf1xent.errors.KernelsError
assert set(tf1xent.__all__) <= set(dir(tf1xent)), dir(tf1xent)
for name in set(tf1xent.__all__) - {"errors"}:
    try:
        getattr(tf1xent, name)
    except ModuleNotFoundError as error:
        assert error.name == "tensorflow", error
    else:
        raise AssertionError(name)
assert not hasattr(tf1xent, "no_such_name")
try:
    import tensorflow
except ModuleNotFoundError:
    print("told")
"""
    assert run_python(hidden, "-c", program) == "told\n"


def test_names_are_those_of_their_modules():
    assert tf1xent.patch is importlib.import_module("tf1xent.patching").patch
    gradients = importlib.import_module("tf1xent.gradients")
    assert tf1xent.override_gradients is gradients.override_gradients
    for name in tf1xent.__all__:
        assert getattr(tf1xent, name) is not None
    with pytest.raises(AttributeError, match="module 'tf1xent' has no attribute 'pach'"):
        tf1xent.pach  # noqa: B018 - the access is what is tested


# When TensorFlow is imported: packages that stand for it, in processes of a moment ---------------

STANDING_IN = """
import sys
import tf1xent
from tf1xent import _registration

_registration._MODULES = ("registers",)

def finders():
    return [finder for finder in sys.meta_path if isinstance(finder, _registration._Finder)]

assert len(finders()) == 1
"""
# By what they are for: tensorflow/__init__.py, registers.py, and the program's continuation.
PROGRAMS = {
    "it is called once, after the module": (
        "VALUE = 3",
        "import tensorflow\nassert tensorflow.VALUE == 3\nprint('registered')",
        "import tensorflow, tensorflow\n"
        "assert type(tensorflow.__spec__.loader).__name__ == 'SourceFileLoader'\n"
        "assert tensorflow.__loader__ is tensorflow.__spec__.loader and not finders()\n",
    ),
    "looking for the module is not importing it": (
        "",
        "print('registered')",
        "import importlib.util\n"
        "spec = importlib.util.find_spec('tensorflow')\n"
        "assert spec.origin.endswith('__init__.py') and spec.loader.get_filename('tensorflow')\n"
        "assert 'registers' not in sys.modules\n"
        "import tensorflow\n",
    ),
    "a part of TensorFlow imports the whole": (
        "",
        "print('registered')",
        "import tensorflow.part\nassert 'registers' in sys.modules\n",
    ),
    "TensorFlow 1.15 has its code in a package that imports it": (
        "from tensorflow_core import *",
        "import tensorflow_core\nprint('registered' if tensorflow_core.VALUE else 'too early')",
        "import tensorflow_core\nassert 'registers' in sys.modules and not finders()\n",
    ),
    "a second attempt after an import that fails": (
        "import builtins\nbuiltins.tries = getattr(builtins, 'tries', 0) + 1\n"
        "if builtins.tries == 1: raise ImportError('at first')",
        "print('registered')",
        "try:\n    import tensorflow\n"
        "except ImportError as error:\n    assert 'first' in str(error)\n"
        "assert 'registers' not in sys.modules and 'tensorflow' not in sys.modules\n"
        "import tensorflow\n",
    ),
    "what the registration raises, the import raises": (
        "",
        "raise ZeroDivisionError('not for this TensorFlow')",
        "try:\n    import tensorflow\nexcept ZeroDivisionError as error:\n"
        "    print('registered' if 'not for this' in str(error) else error)\n"
        "assert finders()\n",
    ),
    "several threads": (
        "import time\ntime.sleep(0.2)\n",
        "print('registered')",
        "import threading\n"
        "threads = [threading.Thread(target=__import__, args=['tensorflow']) for _ in range(4)]\n"
        "for thread in threads: thread.start()\nfor thread in threads: thread.join(60)\n"
        "assert 'tensorflow' in sys.modules and not finders()\n",
    ),
    "tf1xent is imported anew": (
        "",
        "print('registered')",
        "import importlib\nimportlib.reload(tf1xent)\nimport tensorflow\n",
    ),
}


@pytest.mark.parametrize("what", sorted(PROGRAMS))
def test_when_tensorflow_is_imported(what, tmp_path):
    tensorflow, registers, program = PROGRAMS[what]
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text(tensorflow)
    (tmp_path / "tensorflow" / "part.py").write_text("")
    (tmp_path / "tensorflow_core.py").write_text("import tensorflow\nVALUE = 3\n")
    (tmp_path / "registers.py").write_text(registers)
    assert run_python(tmp_path, "-c", STANDING_IN + program) == "registered\n"


def test_a_tensorflow_that_cannot_be_used_is_refused_aloud(tmp_path):
    (tmp_path / "tensorflow.py").write_text("")
    program = """
import tf1xent
try:
    import tensorflow
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert run_python(tmp_path, "-c", program) == "tensorflow.compat\n"
