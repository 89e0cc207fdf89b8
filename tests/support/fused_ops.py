"""TensorFlow's fused ops on placeholders, as they are and rewritten to stock ops."""

import functools

import tensorflow.compat.v1 as tf

from tests.support.loss_graph import DENSE_V2, SPARSE, LossGraph
from tf1xent.graphs import rewrite_graph_def

OP_TYPES = {
    SPARSE: "SparseSoftmaxCrossEntropyWithLogits",
    DENSE_V2: "SoftmaxCrossEntropyWithLogits",
}
# How much of the logits' shape is known when the graph is imported.
STATIC, UNKNOWN_CLASSES, UNKNOWN_RANK = "static", "unknown classes", "unknown rank"


def node_of(graph_def, name):
    (node,) = [node for node in graph_def.node if node.name == name]
    return node


def fused_graph_def(name, logits, labels):
    """The GraphDef of a fused op `xent` on placeholders like two tensors, `logits`, `labels`."""
    with tf.Graph().as_default() as graph:
        tf.placeholder(logits.dtype, logits.shape, name="logits")
        tf.placeholder(labels.dtype, labels.shape, name="labels")
    graph_def = graph.as_graph_def()
    node = graph_def.node.add(name="xent", op=OP_TYPES[name], input=["logits", "labels"])
    node.attr["T"].type = logits.dtype.as_datatype_enum
    if name == SPARSE:
        node.attr["Tlabels"].type = labels.dtype.as_datatype_enum
    return graph_def


class Fused:
    """TensorFlow's fused ops as they are, in the form of a module for LossGraph."""

    @staticmethod
    def changed(graph_def):
        return graph_def

    def __getattr__(self, name):
        return functools.partial(self.loss, name)

    def loss(self, name, labels, logits):
        graph_def = fused_graph_def(name, logits, labels)
        graph_def.node.add(name="output_1", op="Identity", input=["xent:1"])
        graph_def.node[-1].attr["T"].type = logits.dtype.as_datatype_enum
        inputs = {"logits:0": logits, "labels:0": labels}
        (op,) = tf.import_graph_def(self.changed(graph_def), inputs, ["xent"])
        return op.outputs[0]


class Stock(Fused):
    """The fused ops replaced by stock ops."""

    @staticmethod
    def changed(graph_def):
        return rewrite_graph_def(graph_def, "logsumexp")


class Graph(LossGraph):
    """A LossGraph that knows what reads the op's output 1 too, as ("output_1",)."""

    def __init__(self, name, dtype, shape, labels_dtype=None, module=None):
        super().__init__(module or Stock(), name, dtype, labels_dtype, shape)
        scope = self.loss.op.name[: -len("xent")]
        self._derivatives[("output_1",)] = self.loss.graph.get_tensor_by_name(scope + "output_1:0")


@functools.lru_cache(maxsize=None)
def shared_graph(name, dtype):
    """A graph of unknown shapes, for inputs of any: its derivatives take long to build."""
    return Graph(name, dtype, None, labels_dtype_of(name, dtype))


def labels_dtype_of(name, dtype):
    """Both types of integer labels, each with logits of another."""
    if name != SPARSE:
        return None
    return "int32" if dtype in ("float64", "half") else "int64"


@functools.lru_cache(maxsize=None)
def graph_of(name, dtype, num_classes, known):
    if known == UNKNOWN_RANK:
        return shared_graph(name, dtype)
    shape = [None, num_classes if known == STATIC else None]
    return Graph(name, dtype, shape, labels_dtype_of(name, dtype))
