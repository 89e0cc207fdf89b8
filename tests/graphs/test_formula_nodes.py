"""The nodes that take the place of a fused op: their ops, names, devices and control inputs."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.support import cases
from tests.support.fused_ops import fused_graph_def, node_of
from tests.support.loss_graph import DENSE_V2, SPARSE
from tf1xent.graphs import rewrite_graph_def

pytestmark = pytest.mark.lengthy

# All are ops of TF 1.13, which other runtimes know too.
STOCK_OPS = set(
    "Add ArgMax BroadcastArgs Cast Const Equal Exp ExpandDims Fill FloorDiv FloorMod GatherNd "
    "GreaterEqual Identity IdentityN Less Log LogicalAnd Max Minimum Mul Neg Pack Pad Range "
    "RealDiv Reshape ScatterNd Select Shape Sqrt StopGradient Sub Sum Unpack ZerosLike".split()
)
XENT_SHAPES = {SPARSE: ([None, 3], [None]), DENSE_V2: ([None, 3], [None, 3])}


def plain_graph_def(name, dtype="float32", labels_dtype=None):
    """A GraphDef with a fused op `xent`, and nodes `first` and `reader` before and after it."""
    with tf.Graph().as_default() as graph:
        logits_shape, labels_shape = XENT_SHAPES[name]
        default = "int64" if name == SPARSE else dtype
        graph_def = fused_graph_def(
            name,
            tf.placeholder(dtype, logits_shape),
            tf.placeholder(labels_dtype or default, labels_shape),
        )
        tf.import_graph_def(graph_def, name="")
        tf.no_op(name="first")
        tf.identity(graph.get_tensor_by_name("xent:0"), name="reader")
    return graph.as_graph_def()


@pytest.mark.parametrize("labels_dtype", cases.LABELS_DTYPES)
@pytest.mark.parametrize("dtype", cases.LOGITS_DTYPES)
@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_ops_are_old_and_stock(name, dtype, labels_dtype):
    labels_dtype = labels_dtype if name == SPARSE else None
    before = plain_graph_def(name, dtype, labels_dtype)
    after = rewrite_graph_def(before)
    names = {node.name for node in before.node}
    added = [node for node in after.node if node.name not in names]
    assert added and {node.op for node in added} <= STOCK_OPS
    assert all(node.name.startswith("xent/logsumexp/") for node in added)
    xent = node_of(after, "xent")
    assert xent.op == "IdentityN" and len(xent.input) == 2
    kept = [node for node in after.node if node.name in names and node.name != "xent"]
    assert kept == [node for node in before.node if node.name != "xent"]
    # Static shapes are no worse than before.
    shapes = []
    for graph_def in (before, after):
        with tf.Graph().as_default():
            (op,) = tf.import_graph_def(graph_def, return_elements=["xent"])
            shapes.append([output.shape.as_list() for output in op.outputs])
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_device_control_inputs_and_class_are_kept(name):
    graph_def = plain_graph_def(name)
    xent = node_of(graph_def, "xent")
    xent.device = "/device:CPU:0"
    xent.input.append("^first")
    xent.attr["_class"].list.s.append(b"loc:@logits")
    xent.attr["_own"].s = b"something of the owner's"
    names = {node.name for node in graph_def.node}
    after = rewrite_graph_def(graph_def)
    added = [node for node in after.node if node.name not in names]
    for node in added + [node_of(after, "xent")]:
        assert node.device == xent.device
        assert node.attr["_class"] == xent.attr["_class"]
        assert node.attr["_own"] == xent.attr["_own"]
    # No computation that is added runs before `first`: each waits for it, or for one that does, but
    # for those of constants. These wait for nothing, or what they wait for could not be fed.
    late, constant = {"first"}, set()
    for node in added:
        inputs = {reference.lstrip("^").split(":")[0] for reference in node.input}
        if inputs <= constant:
            constant.add(node.name)
            continue
        assert inputs & late, node.name
        late.add(node.name)
    assert constant
    assert {reference.split(":")[0] for reference in node_of(after, "xent").input} <= late


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_names_that_are_taken(name):
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(plain_graph_def(name), name="")
        with tf.name_scope(None):
            tf.constant(1.0, name="xent/logsumexp")
            tf.constant(2.0, name="xent/logsumexp/Exp")
            tf.constant(3.0, name="xent/logsumexp_1/Exp")
    after = rewrite_graph_def(graph.as_graph_def())
    names = [node.name for node in after.node]
    assert len(names) == len(set(names))
    logits = np.array([[1.0, 2.0, 3.0]])
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(after, name="")
        labels = [1] if name == SPARSE else np.eye(3)[[1]]
        fetches = ["reader:0", "xent/logsumexp:0", "xent/logsumexp/Exp:0", "xent/logsumexp_1/Exp:0"]
        got = session.run(fetches, {"logits:0": logits, "labels:0": labels})
    np.testing.assert_allclose(got[0], [1.4076059644], rtol=1e-6)
    assert got[1:] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_a_gradient_of_the_loss_needs_none_of_output_1(name):
    """TensorFlow would send zeros back through it, and compute it for them."""
    after = rewrite_graph_def(plain_graph_def(name))
    with tf.Graph().as_default() as graph:
        loss, xent = tf.import_graph_def(after, return_elements=["reader:0", "xent"], name="")
        logits, cotangent = graph.get_tensor_by_name("logits:0"), tf.placeholder(tf.float32, [None])
        (gradient,) = tf.gradients(loss, logits, cotangent)
    part = tf.graph_util.extract_sub_graph(graph.as_graph_def(), [gradient.op.name])
    needed = {node.name for node in part.node}
    assert len(needed) > 50
    handed_out = xent.inputs[1].op
    assert not needed & {op.name for op in (xent, handed_out, handed_out.inputs[0].op)}
