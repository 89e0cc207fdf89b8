"""What a program gets as ``tensorflow`` under `tf1xent run --compat`, and who else gets it."""

import importlib
import importlib.util
import json
import re
from types import SimpleNamespace

import pytest

from tests.running.installed import HAS, ON_1
from tests.running.processes import PROGRAMS, plain, run
from tests.support.without_tensorflow import hide
from tf1xent.running import contrib

TF = "import tensorflow as tf"
# Statements, an expression, and its value on TF 2.x; on TF 1.x too, but for odd private modules.
GIVEN = [
    (TF, "tf.Session.__name__", "'Session'"),
    (TF, "tf.executing_eagerly()", "False"),
    (TF, "tf.compat.v1.Session is tf.Session", "True"),
    (TF, "tf.app.flags.FLAGS is tf.flags.FLAGS", "True"),
    (TF, "tf.gfile.Exists('.'), tf.logging.INFO", "(True, 20)"),
    (TF, "tf.python.framework.ops.Graph is tf.Graph", "True"),
    (TF, "hasattr(tf, 'no_such_name')", "False"),
    ("import tensorflow", "tensorflow.placeholder.__name__", "'placeholder'"),
    ("import tensorflow, tensorflow.python", "tensorflow.python.__name__", "'tensorflow.python'"),
    (
        "import tensorflow.python.ops.math_ops as m",
        "m.__name__",
        "'tensorflow.python.ops.math_ops'",
    ),
    ("import tensorflow.nn\nimport tensorflow.losses as l", "l.log_loss.__name__", "'log_loss'"),
    ("from tensorflow import flags, app, Session", "Session.__name__", "'Session'"),
    ("from tensorflow import *", "placeholder.__name__, '__getattr__' in globals()", None),
    ("from tensorflow.nn import static_rnn", "static_rnn.__name__", "'static_rnn'"),
    (
        "from tensorflow.python.ops import nn_ops",
        "nn_ops.__name__",
        "'tensorflow.python.ops.nn_ops'",
    ),
    (
        "from tensorflow.core.framework import graph_pb2",
        "graph_pb2.GraphDef.__name__",
        "'GraphDef'",
    ),
    ("from tensorflow.keras.datasets import mnist", "callable(mnist.load_data)", "True"),
    ("import importlib", "importlib.import_module('tensorflow').Session.__name__", "'Session'"),
    ("import importlib", "importlib.import_module('tensorflow.losses').log_loss.__name__", None),
    ("", "__import__('tensorflow').Session.__name__", "'Session'"),
    (TF, "tf.layers.dense(tf.ones([2, 3]), 4).shape.as_list()", "[2, 4]"),
    (TF, "tf.nn.rnn_cell.GRUCell(5).state_size", "5"),
    ("import program_module", "program_module.KIND", "'Session'"),
]
VALUES = {"placeholder.__name__, '__getattr__' in globals()": "('placeholder', False)"}
VALUES["importlib.import_module('tensorflow.losses').log_loss.__name__"] = "'log_loss'"
# On TF 2.x: statements, an expression, and its value, or the error that it raises.
NO_CONTRIB = ": TensorFlow 2.x has no tf.contrib. "
SLIM = "Use `import tf_slim as slim` (pip install tf_slim)."
GRU = f"tf.contrib.rnn.GRUCell{NO_CONTRIB}Use tf.nn.rnn_cell.GRUCell."
XAVIER = "Use tf.glorot_uniform_initializer()."
ON_2 = [
    ("import sys", "hasattr(sys.modules['tensorflow'], 'Session')", "False"),
    ("import installed_module", "installed_module.KIND", "None"),
    (TF, "hasattr(tf, 'contrib')", "False"),
    (TF, "tf.no_such_name", "AttributeError: module 'tensorflow' has no attribute 'no_such_name'"),
    (TF, "tf.contrib.rnn.GRUCell(3)", "AttributeError: " + GRU),
    (TF, "(tf.contrib\n.rnn\n.GRUCell)", "AttributeError: " + GRU),
    (TF + "\nc = tf.contrib.slim", "c", f"AttributeError: tf.contrib.slim{NO_CONTRIB}{SLIM}"),
    (
        TF + "\ndef f(x=tf.contrib.layers.xavier_initializer()): pass",
        "f",
        f"AttributeError: tf.contrib.layers.xavier_initializer{NO_CONTRIB}{XAVIER}",
    ),
    (
        TF,
        "getattr(tf, 'contrib')",
        f"AttributeError: tf.contrib{NO_CONTRIB}The error for a part of it, such as "
        "tf.contrib.slim, says what replaces the part.",
    ),
    ("import tensorflow.contrib.rnn as rnn", "rnn", "ModuleNotFoundError: tf.contrib.rnn"),
    (
        "import tensorflow.contrib.slim as slim",
        "slim",
        f"ModuleNotFoundError: tf.contrib.slim{NO_CONTRIB}{SLIM}",
    ),
    (
        "from tensorflow.contrib import slim",
        "slim",
        f"ModuleNotFoundError: tf.contrib.slim{NO_CONTRIB}{SLIM}",
    ),
    ("from tensorflow.contrib.rnn import GRUCell", "GRUCell", "ModuleNotFoundError: " + GRU),
    ("from tensorflow import contrib", "contrib", f"ImportError: tf.contrib{NO_CONTRIB}"),
    (
        "from tensorflow.examples.tutorials.mnist import input_data",
        "input_data",
        "ModuleNotFoundError: tf.examples.tutorials.mnist.input_data: TensorFlow 2.x has no "
        "tensorflow.examples. Keep a copy of input_data.py, or use "
        "tf.keras.datasets.mnist.load_data().",
    ),
    ("from tensorflow import no_such", "no_such", "ImportError: cannot import name 'no_such'"),
    ("import tensorflow.no_such", "1", "ModuleNotFoundError: No module named 'tensorflow.no_such'"),
]
# Where TensorFlow's Keras is Keras 3.
KERAS_3 = "the Keras 3 of this TensorFlow "
INSTALL = "Install Keras 2 (pip install tf_keras, the version of this TensorFlow)."
ON_KERAS_3 = [
    (
        TF,
        "tf.layers.batch_normalization",
        f"AttributeError: tf.layers.batch_normalization: {KERAS_3}has no tf.layers. {INSTALL}",
    ),
    (
        "from tensorflow.keras.layers import Dense",
        "Dense",
        f"ModuleNotFoundError: tf.keras.layers.Dense: {KERAS_3}cannot build graphs of TF 1.x. "
        + INSTALL,
    ),
    (TF, "tf.keras.utils.to_categorical([1]).tolist()", "[[0.0, 1.0]]"),
    (
        "import sys, keras.src.backend.tensorflow.core as core",
        "core.tf is sys.modules['tensorflow']",
        "True",
    ),
]
QUESTIONS = [*GIVEN, *([] if ON_1 else ON_2), *([] if HAS["Keras 2"] else ON_KERAS_3)]
MODULE = "import tensorflow as tf\nKIND = 'Session' if hasattr(tf, 'Session') else None\n"


def answers_of(start, folder, *options):
    """Returns what the program `imports` says, by question."""
    (folder / "site-packages").mkdir()
    (folder / "program_module.py").write_text(MODULE)
    (folder / "site-packages" / "installed_module.py").write_text(MODULE)
    file = folder / "questions.json"
    file.write_text(json.dumps([question[:2] for question in QUESTIONS]))
    paths = {"PYTHONPATH": f"{folder}:{folder / 'site-packages'}"}
    ran = start(*options, str(PROGRAMS / "imports.py"), str(file), variables=paths)
    assert ran.code == 0, ran.err
    return dict(zip(QUESTIONS, json.loads(ran.out.splitlines()[-1])))


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return answers_of(run, tmp_path_factory.mktemp("ours"), "--compat")


@pytest.fixture(scope="module")
def answers_of_python(tmp_path_factory):
    return answers_of(plain, tmp_path_factory.mktemp("plain")) if ON_1 else {}


@pytest.mark.parametrize("question", QUESTIONS, ids=[f"{s}; {e}" for s, e, _ in QUESTIONS])
def test_what_an_import_gives(question, answers, answers_of_python):
    """On TF 1.x what it gives without us; there a few of TensorFlow's modules cannot be had."""
    statements, expression, value = question
    wanted = answers_of_python.get(question, VALUES.get(expression, value))
    if "Error: " in wanted and not ON_1:  # Python's own go on after what all its versions say
        assert answers[question].startswith(wanted)
    else:
        assert answers[question] == wanted


PROGRAM = """
import old
try:
    import json.no_such_module
except ImportError:
    import broken
"""


def test_errors_and_warnings_show_no_line_of_ours(tmp_path):
    """The import of a module goes by our function, and nobody sees it."""
    (tmp_path / "broken.py").write_text("import inner\n")
    (tmp_path / "inner.py").write_text("def f():\n    raise ValueError('inner')\nf()\n")
    (tmp_path / "old.py").write_text("import warnings\nwarnings.warn('old', stacklevel=2)\n")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    ours, pythons = run("--compat", str(program)), plain(str(program))
    assert (ours.code, ours.out, ours.err) == (pythons.code, pythons.out, pythons.err)
    assert "UserWarning: old" in ours.err and "no_such_module" in ours.err


def test_without_tensorflow_the_error_is_pythons(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("from tensorflow.contrib import slim\n")
    hidden = {"PYTHONPATH": str(hide(tmp_path, "tensorflow"))}
    ours = run("--compat", str(program), variables=hidden)
    pythons = plain(str(program), variables=hidden)
    assert (ours.code, ours.out) == (pythons.code, pythons.out) == (1, "")
    assert ours.err.splitlines()[-1] == "ModuleNotFoundError: No module named 'tensorflow'"


# What the texts of the table call ``tf.``, but for what they say is only there up to a version.
NAMES = sorted(
    {
        name
        for key in contrib._REPLACEMENTS
        for name in re.findall(
            r"\btf\.[A-Za-z_.0-9]*[A-Za-z0-9]", contrib.answer(key).split(": ", 1)[1]
        )
        if name.split(".")[1] not in ("contrib", "estimator", "examples", "keras", "layers")
    }
)


@pytest.mark.skipif(ON_1, reason="the replacements are those of TF 2.x")
def test_what_the_table_names_is_there():
    import tensorflow.compat.v1 as tf

    from tf1xent import _tf

    def found(name):
        whole = SimpleNamespace(compat=importlib.import_module("tensorflow.compat"), tf=tf)
        part = tf if not name.startswith("tf.compat.v2") else whole
        if name.startswith("tf.nn.rnn_cell") and not HAS["Keras 2"]:
            part, name = _tf.rnn_cells_without_keras(), name[len("tf.nn.rnn_cell") :]
        for each in filter(None, name.split(".")[1:]):
            part = getattr(part, each, None)
        return part is not None

    assert len(NAMES) > 60
    assert [name for name in NAMES if not found(name)] == []


@pytest.mark.skipif(not ON_1, reason="TF 2.x has no tf.contrib")
def test_the_table_names_parts_of_contrib_and_all_of_them():
    import pkgutil

    import tensorflow as tf

    packages = {module.name for module in pkgutil.iter_modules(tf.contrib.__path__) if module.ispkg}
    rows = [key.split(".")[1:] for key in contrib._REPLACEMENTS if key.startswith("contrib.")]
    assert packages - {row[0] for row in rows} - {"cmake", "python"} == set()

    def found(row):
        part = tf.contrib
        for name in row:
            part = getattr(part, name, None)
        return part is not None

    assert [row for row in rows if len(row) > 1 and not found(row)] == []


def test_every_text_is_one_sentence_or_more_in_one_line():
    for key in contrib._REPLACEMENTS:
        text = contrib.answer(key)
        assert text.startswith(f"tf.{key}: ") and text.endswith(".") and "\n" not in text
        assert "{" not in text and ".." not in text
    assert contrib.answer("no_such_name") == ""
    assert contrib.answer("contrib.no_such.name").startswith("tf.contrib.no_such.name: ")
