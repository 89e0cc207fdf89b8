"""Graphs with ops of the native library, written node by node, so that they need no library."""

import mpmath
import numpy as np
import tensorflow.compat.v1 as tf

from tests.oracle import reference
from tf1xent import graphs

SPARSE, DENSE = "Sparse", "Dense"
PREFIX = "Tf1xentKernel"
# By node: what the op reads beside the logits and labels.
READS = {
    "xent": [],
    "gradient": ["scale", "xent:1"],
    "product": ["vectors", "scale"],
    "in_labels": ["scale", "xent:1"],
}
OPS = {"xent": "Loss", "gradient": "Gradient", "product": "HessianProduct"}
RESULTS = ("xent:0", "xent:1", "gradient:0", "product:0")


def add_op(nodes, kind, name, inputs, dtype, labels_dtype, invalid_labels="raise"):
    """Adds a node of the native library with all of its attributes."""
    op = "LabelGradient" if name == "in_labels" else kind + OPS[name]
    node = nodes.add(name=name, op=PREFIX + op, input=inputs)
    node.attr["T"].type = tf.as_dtype(dtype).as_datatype_enum
    node.attr["precise"].type = tf.as_dtype(precise_of(dtype)).as_datatype_enum
    if kind == SPARSE:
        node.attr["labels_type"].type = tf.as_dtype(labels_dtype).as_datatype_enum
        node.attr["invalid_labels"].s = invalid_labels.encode()
    return node


def precise_of(dtype):
    return "float64" if dtype == "float64" else "float32"


def labels_dtype_of(kind, dtype):
    """Both dtypes of integer labels, each with logits of another."""
    if kind == DENSE:
        return dtype
    return "int64" if dtype in ("float32", "half") else "int32"


def names_of(kind):
    return [name for name in READS if name != "in_labels" or kind == DENSE]


def kernel_graph(kind, dtype="float64", shape=None, **attributes):
    """The GraphDef of a loss `xent`, its derivatives, and the placeholders that they read."""
    labels_dtype = labels_dtype_of(kind, dtype)
    rows = None if shape is None else shape[:1]
    with tf.Graph().as_default() as graph:
        tf.placeholder(dtype, shape, name="logits")
        tf.placeholder(labels_dtype, rows if kind == SPARSE else shape, name="labels")
        tf.placeholder(dtype, shape, name="vectors")
        tf.placeholder(precise_of(dtype), rows, name="scale")
    graph_def = graph.as_graph_def()
    for name in names_of(kind):
        inputs = ["logits", "labels", *READS[name]]
        add_op(graph_def.node, kind, name, inputs, dtype, labels_dtype, **attributes)
    return graph_def


class Lowered:
    """A graph of kernel ops after "logsumexp", imported, with a session."""

    def __init__(self, graph_def):
        changed = graphs.rewrite_graph_def(graph_def)
        assert_is_stock(changed)
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.import_graph_def(changed, name="")
        self.session = tf.Session(graph=self.graph)

    def tensor(self, name):
        return self.graph.get_tensor_by_name(name if ":" in name else name + ":0")

    def gradient(self, of, by, times=None):
        """d <of, times> / d by"""
        with self.graph.as_default():
            total = of if times is None else of * self.tensor(times)
            (found,) = tf.gradients(total, self.tensor(by))
        assert found is not None
        return found

    def run(self, tensors, logits, labels, vectors=None, scale=None):
        fed = {"logits": logits, "labels": labels, "vectors": vectors, "scale": scale}
        feed = {}
        for name, value in fed.items():
            if value is not None:
                dtype = self.tensor(name).dtype.as_numpy_dtype
                feed[self.tensor(name)] = np.asarray(value).astype(dtype)
        return self.session.run(tensors, feed)


def assert_is_stock(graph_def):
    """No node is of an op of ours or names a gradient of ours; node names may say anything."""
    functions = graph_def.library.function
    for node in [*graph_def.node, *(node for f in functions for node in f.node_def)]:
        assert not node.op.startswith("Tf1xent"), node.name
        assert b"_gradient_op_type" not in node.SerializeToString(), node.name


def in_exact(values, factors):
    """Rows of numbers of mpmath times a float each."""
    with mpmath.workdps(60):
        return values * reference.exactly(factors).reshape((-1,) + (1,) * (values.ndim - 1))


def scale_of(logits):
    """Cotangents that float32 holds exactly, of both signs."""
    return np.array([1.0, 3.0, -0.25, 0.5, 2.0])[np.arange(len(logits)) % 5]


LOGITS = np.array([[1.0, 2.0, 0.5], [0.3, -1.0, 0.0], [40.0, 0.0, 0.0]])
LABELS = np.array([2, 0, 0])
VECTORS = np.array([[1.0, -2.0, 0.5], [0.25, 1.0, 3.0], [1.0, 0.0, -1.0]])
SCALE = np.array([1.0, -2.0, 0.5])
# Row 1 has an invalid label.
INVALID = np.array([2, 3, 0])


def with_function():
    """A graph whose node `call` returns loss and gradient from a function."""
    with tf.Graph().as_default() as graph:
        tf.placeholder(tf.float64, [None, 3], name="logits")
        tf.placeholder(tf.int32, [None], name="labels")
        tf.placeholder(tf.float64, [None], name="scale")
    graph_def = graph.as_graph_def()
    graph_def.node.add(name="call", op="f", input=["logits", "labels", "scale"])
    function = graph_def.library.function.add()
    function.signature.name = "f"
    double, int32 = tf.float64.as_datatype_enum, tf.int32.as_datatype_enum
    for name, dtype in (("x", double), ("y", int32), ("w", double)):
        function.signature.input_arg.add(name=name, type=dtype)
    for name in ("loss", "slope"):
        function.signature.output_arg.add(name=name, type=double)
    add_op(function.node_def, SPARSE, "xent", ["x", "y"], "float64", "int32")
    inputs = ["x", "y", "w", "xent:statistics:0"]
    add_op(function.node_def, SPARSE, "gradient", inputs, "float64", "int32")
    function.ret["loss"], function.ret["slope"] = "xent:loss:0", "gradient:gradient:0"
    return graph_def
