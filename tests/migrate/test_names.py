"""Which of TensorFlow's functions a name stands for: through imports, aliases and scopes."""

import libcst as cst
import pytest
from libcst.metadata import MetadataWrapper, ParentNodeProvider, ScopeProvider

from tf1xent.migrate.context import Context
from tf1xent.migrate.finding import Options
from tf1xent.migrate.names import TensorFlowName, tensorflow_name


def last_line(source):
    """The context of a module, and the expression on its last line."""
    wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    metadata = wrapper.resolve_many([ParentNodeProvider, ScopeProvider])
    found = []

    class Last(cst.CSTVisitor):
        def visit_Expr(self, node):
            found.append(node.value)

    wrapper.module.visit(Last())
    return Context(wrapper.module, metadata, Options()), found[-1]


NAMES = {
    "as tf": ("import tensorflow as tf\ntf.nn.x", "tf.nn.x", None),
    "as it is": ("import tensorflow\ntensorflow.nn.x", "tf.nn.x", None),
    "compat.v1": ("import tensorflow.compat.v1 as tf\ntf.nn.x", "tf.nn.x", "v1"),
    "compat.v1 by from": ("from tensorflow.compat import v1\nv1.nn.x", "tf.nn.x", "v1"),
    "compat.v1 by attribute": ("import tensorflow as tf\ntf.compat.v1.nn.x", "tf.nn.x", "v1"),
    "compat.v2": ("import tensorflow.compat.v2 as tf\ntf.nn.x", "tf.nn.x", "v2"),
    "nn": ("from tensorflow import nn\nnn.x", "tf.nn.x", None),
    "a function": ("from tensorflow.nn import x as y\ny", "tf.nn.x", None),
    "ops": ("from tensorflow.python.ops import nn\nnn.x", "tf.nn.x", "v1"),
    "nn_ops": ("from tensorflow.python.ops.nn_ops import x\nx", "tf.nn.x", "v1"),
    "slim": (
        "import tensorflow.contrib.slim as slim\nslim.losses.x",
        "tf.contrib.losses.x",
        None,
    ),
    "slim by attribute": (
        "import tensorflow as tf\nslim = tf.contrib.slim\nslim.losses.x",
        "tf.contrib.losses.x",
        None,
    ),
    "losses of slim": (
        "from tensorflow.contrib.slim import losses\nlosses.x",
        "tf.contrib.losses.x",
        None,
    ),
    "tf_slim": ("import tf_slim as slim\nslim.losses.x", "tf.contrib.losses.x", None),
    "try": (
        "try:\n  import tensorflow.compat.v1 as tf\nexcept E:\n  import tensorflow as tf\ntf.nn.x",
        "tf.nn.x",
        "v1",
    ),
    "branches": (
        "if old:\n  import tensorflow as tf\nelse:\n  import tensorflow.compat.v1 as tf\ntf.nn.x",
        "tf.nn.x",
        "v1",
    ),
    "may be missing": (
        "try:\n  import tensorflow as tf\nexcept ImportError:\n  tf = None\ntf.nn.x",
        "tf.nn.x",
        None,
    ),
    "in a function": ("def f():\n  import tensorflow as tf\n  tf.nn.x", "tf.nn.x", None),
    "around a function": ("import tensorflow as tf\ndef f():\n  tf.nn.x", "tf.nn.x", None),
    "a variable": ("import tensorflow as tf\nnn = tf.nn\nx = nn.x\nx", "tf.nn.x", None),
    "tf1xent": ("import tf1xent as t\nt.nn.x", "tf1xent.nn.x", None),
    "both APIs by one name": (
        "import tensorflow.compat.v1 as tf\nimport tensorflow.compat.v2 as tf\ntf.nn.x",
        None,
        None,
    ),
    "two libraries by one name": ("import tensorflow as t\nimport torch as t\nt.nn.x", None, None),
    "not TensorFlow": ("import numpy as np\nnp.nn.x", None, None),
    "another tensorflow": ("from . import tensorflow as tf\ntf.nn.x", None, None),
    "a similar name": ("import tensorflow_probability as tf\ntf.nn.x", None, None),
    "a star": ("from tensorflow.nn import *\nx", None, None),
    "no import": ("tf.nn.x", None, None),
    "a parameter": ("import tensorflow as tf\ndef f(tf):\n  tf.nn.x", None, None),
    "a name of its own": ("from tensorflow.nn import x\ndef x(): pass\nx", None, None),
    "assigned again": ("import tensorflow as tf\ntf = other\ntf.nn.x", None, None),
    "assigned in a branch": (
        "import tensorflow as tf\nnn = tf.nn\nif a:\n  nn = b\nnn.x",
        None,
        None,
    ),
    "the result of a call": ("import tensorflow as tf\ntf.f().x", None, None),
}


@pytest.mark.parametrize("case", sorted(NAMES))
def test_name(case):
    source, name, api = NAMES[case]
    context, expression = last_line(source)
    assert context.name(expression) == (None if name is None else TensorFlowName(name, api))


@pytest.mark.parametrize(
    "source, api",
    [
        ("import tensorflow as tf\ntf.nn.x", None),
        ("import tensorflow as tf\ntf.placeholder\ntf.nn.x", "v1"),
        ("import tensorflow as tf\nlog = tf.compat.v1.log\ntf.placeholder\ntf.nn.x", "v1"),
        ("import tensorflow as tf\ntf.GradientTape\ntf.nn.x", "v2"),
        ("import tensorflow as tf\n@tf.function\ndef f(): pass\ntf.nn.x", "v2"),
        ("import tensorflow as tf\ntf.compat.v1.log\ntf.nn.x", "v2"),
        ("import tensorflow as tf\ntf.compat.v1.placeholder\ntf.compat.v1.nn.x", "v1"),
        ("import tensorflow as tf\nself.placeholder, np.log\ntf.nn.x", None),
        ("import tensorflow as tf\nfrom tensorflow.contrib import rnn\ntf.nn.x", "v1"),
        ("import tensorflow as tf\nimport tensorflow.contrib.slim as slim\ntf.nn.x", "v1"),
        ("from tensorflow import nn, compat\nnn.x", None),
        ("import numpy as np\nnp.nn.x", None),
    ],
)
def test_version(source, api):
    context, expression = last_line(source)
    assert context.api(expression) == api


@pytest.mark.parametrize("name", ["", "tensor", "tensorflow_core.nn.x", "tf.nn.x"])
def test_other_names(name):
    assert tensorflow_name(name) is None


def test_what_speaks_for_a_version_is_in_that_version_only():
    import tensorflow

    from tf1xent.migrate.versions import V1_NAMES

    is_v1 = tensorflow.__version__.startswith("1.")
    wrong = [name for name in sorted(V1_NAMES) if hasattr(tensorflow, name) != is_v1]
    assert wrong == []
