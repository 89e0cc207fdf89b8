"""Graphs that hold ops of the native library: told of, and made of stock ops, without the library.

The graphs are written node by node, so that nothing here needs the library but the last test, which
compares its ops with what takes their place.
"""

import mpmath
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import saved_model_pb2

from tests.oracle import reference
from tests.support import cases, tolerances
from tests.support.tolerances import assert_within_contract
from tf1xent import cli, graphs, kernels, nn
from tf1xent.errors import GraphFileError, KernelsError, RewriteError
from tf1xent.graphs.inspecting.report import Verdict
from tf1xent.graphs.inspecting.verdicts import Site, verdict
from tf1xent.graphs.shapes import Broadcast

pytestmark = pytest.mark.lengthy

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


# --- Values -----------------------------------------------------------------------------------


def scale_of(logits):
    """Cotangents that float32 holds exactly, of both signs."""
    return np.array([1.0, 3.0, -0.25, 0.5, 2.0])[np.arange(len(logits)) % 5]


def assert_statistics(got, logits, labels):
    """m, s, Z of integer labels; m, s, S and S without the pivot's of distributions."""
    x = logits.astype(np.float64)
    m = x.max(axis=1)
    e = np.exp(x - m[:, np.newaxis])
    is_sparse = labels.ndim == 1
    left_out = labels if is_sparse else x.argmax(axis=1)
    others = np.arange(x.shape[1]) != left_out[:, np.newaxis]
    s = np.where(others, e, 0).sum(axis=1)
    if is_sparse:
        wants = [m, s, s + e[np.arange(len(x)), labels]]
    else:
        exact = labels.astype(np.float64)
        wants = [m, s, exact.sum(axis=1), np.where(others, exact, 0).sum(axis=1)]
    np.testing.assert_array_equal(got[0], m.astype(got.dtype))
    bound = 2 * tolerances.relative_bound(logits)
    for numbers, want in zip(got[1:], wants[1:]):
        allowed = bound * np.abs(want) + tolerances.smallest_normal(logits.dtype)
        assert np.all(np.abs(numbers - want) <= allowed)


CASES = [
    ("float32", 10, None),
    ("float32", 65, [None, None]),
    ("float64", 2, [None, 2]),
    ("float64", 10, "static"),
    ("float32", 1, None),
]


@pytest.mark.parametrize("dtype, num_classes, shape", CASES)
@pytest.mark.parametrize("kind", [SPARSE, DENSE])
def test_values_meet_the_contract(kind, dtype, num_classes, shape):
    logits, labels = cases.rows(num_classes, dtype)  # rows with a margin of 40 among them
    if num_classes > 10:
        logits, labels = logits[::4], labels[::4]
    scale, oracle = scale_of(logits), reference.Reference(logits)
    vectors = np.eye(num_classes, dtype=dtype)[np.arange(len(logits)) % num_classes]
    shape = list(logits.shape) if shape == "static" else shape
    lowered = Lowered(kernel_graph(kind, dtype, shape))
    entry_scale = None
    if kind == SPARSE:
        loss, gradient = oracle.sparse_loss(labels), oracle.sparse_gradient(labels)
        product = oracle.derivative_product([vectors])
    else:
        labels = cases.dense_labels(logits, labels, cases.DENSE_KINDS)
        loss, gradient = oracle.dense_loss(labels), oracle.dense_gradient(labels)
        product = oracle.derivative_product([vectors], labels)
        entry_scale = in_exact(tolerances.gradient_scale(oracle, labels), np.abs(scale))
    wants = {
        "xent": loss,
        "gradient": in_exact(gradient, scale),
        "product": in_exact(product, scale),
    }
    if kind == DENSE:
        wants["in_labels"] = in_exact(oracle.labels_gradient(), scale)
    names = [*wants, "xent:1"]
    fetched = lowered.run([lowered.tensor(n) for n in names], logits, labels, vectors, scale)
    for name, got in zip(names[:-1], fetched):
        assert got.dtype == np.dtype(dtype)
        relative_to = entry_scale if name == "gradient" else None
        assert_within_contract(got, wants[name], logits, relative_to, what=name)
    assert_statistics(fetched[-1], logits, labels)
    if shape is not None and None not in shape:
        for name, got in zip(names, fetched):
            assert lowered.tensor(name).shape.as_list() == list(got.shape)


def test_edges_of_rows():
    logits = np.array(
        [[0.0, np.nan, 1.0], [0.0, 1.0, 2.0], [np.inf, 0.0, 0.0], [1.0, 2.0, -np.inf]]
    )
    distributions = np.array([[0.5, 0.5, 0.0]] * 4)
    scale, vectors = np.ones(4), np.ones((4, 3))
    for kind, labels in ((SPARSE, [0, 1, 1, 2]), (DENSE, distributions)):
        lowered = Lowered(kernel_graph(kind))
        names = names_of(kind)
        tensors = [lowered.tensor(name) for name in names]
        found = dict(zip(names, lowered.run(tensors, logits, labels, vectors, scale)))
        for name, value in found.items():
            is_nan = np.isnan(value.reshape(4, -1)).any(axis=1)
            np.testing.assert_array_equal(is_nan, [True, False, True, False], err_msg=name)
        if kind == SPARSE:
            assert found["xent"][3] == np.inf
            assert found["gradient"][3, 2] == -1
        else:
            assert found["in_labels"][3, 2] == 0
        empty = lowered.run(tensors, np.zeros((0, 3)), np.zeros_like(labels)[:0], vectors[:0], [])
        assert [value.size for value in empty] == [0] * len(names)


@pytest.mark.parametrize("kind", [SPARSE, DENSE])
@pytest.mark.parametrize("dtype", ["half", "bfloat16"])
def test_low_precision_is_computed_in_float32_and_rounded_once(kind, dtype):
    low = tf.as_dtype(dtype).as_numpy_dtype
    random = np.random.RandomState(8)
    logits = (random.normal(size=(8, 10)) * 3.0).astype(np.float32)
    logits[0] = 0.0
    logits[0, 3] = 9.0
    logits = logits.astype(low).astype(np.float32)  # what the op is given, exactly
    classes = np.array([3, 0, 1, 5, 9, 4, 0, 2])
    vectors = np.eye(10, dtype=np.float32)[classes]
    labels = classes if kind == SPARSE else vectors
    lowered = Lowered(kernel_graph(kind, dtype, [8, 10]))
    oracle = reference.Reference(logits)
    scale = scale_of(logits)
    wants = [
        oracle.sparse_loss(classes),
        in_exact(oracle.sparse_gradient(classes), scale),
        in_exact(oracle.derivative_product([vectors]), scale),
        in_exact(oracle.labels_gradient(), scale),
    ]
    tensors = [lowered.tensor(name) for name in names_of(kind)]
    for got, want in zip(lowered.run(tensors, logits, labels, vectors, scale), wants):
        is_loss = want.ndim == 1
        assert got.dtype == (np.float32 if is_loss else low)
        # Half of the last place of 11 or 8 binary digits, and of the smallest half number.
        roundoff, smallest = (2.0**-11, 2.0**-25) if dtype == "half" else (2.0**-8, 1e-38)
        roundoff = 1e-5 if is_loss else 1.01 * roundoff
        want = want.astype(np.float64)
        error = np.abs(got.astype(np.float64) - want)
        assert np.all(error <= roundoff * np.abs(want) + smallest), error.max()


# --- Invalid labels ---------------------------------------------------------------------------


LOGITS = np.array([[1.0, 2.0, 0.5], [0.3, -1.0, 0.0], [40.0, 0.0, 0.0]])
LABELS = np.array([2, 0, 0])
VECTORS = np.array([[1.0, -2.0, 0.5], [0.25, 1.0, 3.0], [1.0, 0.0, -1.0]])
SCALE = np.array([1.0, -2.0, 0.5])
INVALID = np.array([2, 3, 0])


def test_invalid_labels_are_refused():
    lowered = Lowered(kernel_graph(SPARSE))
    # The gradient alone is refused by the loss whose statistics it reads.
    of_loss = lowered.gradient(lowered.tensor("xent"), "logits")
    for tensor in [lowered.tensor(name) for name in RESULTS] + [of_loss]:
        for labels in (INVALID, INVALID - 3):
            with pytest.raises(tf.errors.InvalidArgumentError):
                lowered.run(tensor, LOGITS, labels, VECTORS, SCALE)


def test_invalid_labels_are_nan_where_the_graph_says_so():
    lowered = Lowered(kernel_graph(SPARSE, invalid_labels="nan"))
    tensors = [lowered.tensor(name) for name in RESULTS]
    tensors += [
        lowered.gradient(lowered.tensor("xent"), "logits"),
        lowered.gradient(lowered.tensor("gradient"), "logits", "vectors"),
    ]
    wants = lowered.run(tensors, LOGITS, LABELS, VECTORS, SCALE)
    for labels in (INVALID, INVALID - [0, 4, 0]):
        found = lowered.run(tensors, LOGITS, labels, VECTORS, SCALE)
        for tensor, got, want in zip(tensors, found, wants):
            if tensor.name == "xent:1":
                got, want = got[2], want[2]  # Z of m, s, Z
            assert np.isnan(got[1]).all(), tensor.name
            np.testing.assert_array_equal(got[[0, 2]], want[[0, 2]])


# --- Derivatives ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SPARSE, DENSE])
def test_derivatives_are_those_of_the_values(kind):
    random = np.random.RandomState(3)
    logits = random.normal(size=(5, 4)) * 2.0
    logits[0] += [9.0, 0.0, 0.0, 0.0]
    labels = np.array([0, 3, 2, 1, 0])
    if kind == DENSE:
        labels = np.eye(4)[labels] + random.uniform(size=(5, 4))
    vectors, scale = random.normal(size=(5, 4)), random.normal(size=5)
    lowered = Lowered(kernel_graph(kind))
    of_loss = lowered.gradient(lowered.tensor("xent"), "logits")
    # (value [5] or [5, 4], argument, derivative of its sum or of its product with the vectors).
    named = [(of_loss, "logits"), (lowered.tensor("gradient"), "logits")]
    named += [(lowered.tensor("gradient"), "scale"), (lowered.tensor("product"), "logits")]
    named += [(lowered.tensor("product"), "scale"), (lowered.tensor("product"), "vectors")]
    if kind == DENSE:
        in_labels = lowered.tensor("in_labels")
        named += [(of_loss, "labels"), (lowered.tensor("gradient"), "labels")]
        named += [
            (in_labels, "logits"),
            (in_labels, "scale"),
            (lowered.tensor("product"), "labels"),
        ]
    pairs = [(lowered.tensor("xent"), "logits", of_loss)]
    weights = random.normal(size=(5, 4))
    with lowered.graph.as_default():
        for value, argument in named:
            total = tf.reduce_sum(value * weights, axis=1)
            pairs.append((total, argument, tf.gradients(total, lowered.tensor(argument))[0]))

    point = {"logits": logits, "labels": labels, "vectors": vectors, "scale": scale}
    derivatives = lowered.run([derivative for _, _, derivative in pairs], **point)
    for (value, argument, _), got in zip(pairs, derivatives):

        def at(moved, value=value, argument=argument):
            return lowered.run(value, **dict(point, **{argument: moved}))

        # Row i of each depends on row i of the argument alone.
        for direction in [np.ones(5)] if argument == "scale" else np.eye(4):
            direction = np.broadcast_to(direction, got.shape)
            slope = reference.central_difference(at, point[argument], direction)
            along = got * direction if got.ndim == 1 else (got * direction).sum(axis=1)
            np.testing.assert_allclose(along, slope, rtol=1e-6, atol=1e-8, err_msg=value.name)


@pytest.mark.parametrize("kind", [SPARSE, DENSE])
def test_the_hessian_of_a_confident_row(kind):
    logits, labels = LOGITS[2:], LABELS[2:] if kind == SPARSE else np.eye(3)[:1]
    lowered = Lowered(kernel_graph(kind))
    gradients = [lowered.gradient(lowered.tensor("xent"), "logits"), lowered.tensor("gradient")]
    products = [lowered.gradient(gradient, "logits", "vectors") for gradient in gradients]
    oracle = reference.Reference(logits)
    for unit in np.eye(3):
        want = oracle.derivative_product([[unit]])
        found = lowered.run([*products, lowered.tensor("product")], logits, labels, [unit], [1.0])
        for got in found:
            assert_within_contract(got, want, logits)


# --- Names, functions, files ------------------------------------------------------------------


def test_nodes_keep_name_place_device_and_controls():
    graph_def = kernel_graph(SPARSE, "float32")
    node = graph_def.node[-1]
    node.device = "/device:CPU:0"
    node.input.append("^scale")
    node.attr["_class"].list.s.append(b"loc:@logits")
    before = {node.name: node.op for node in graph_def.node}
    original = graph_def.SerializeToString()
    changed = graphs.rewrite_graph_def(graph_def)
    assert graph_def.SerializeToString() == original
    after = {node.name: node.op for node in changed.node}
    assert list(after)[: len(before)] == list(before)
    for name, op in before.items():
        assert after[name] == ("IdentityN" if op.startswith(PREFIX) else op)
    added = [node for node in changed.node if node.name not in before]
    assert all(node.name.split("/")[1] == "logsumexp" for node in added)
    product = [node for node in added if node.name.startswith("product/")]
    assert {node.device for node in product} == {"/device:CPU:0"}
    assert all(node.attr["_class"].list.s for node in product)
    assert any("^scale" in node.input for node in product)
    assert graphs.rewrite_graph_def(changed) == changed


def test_other_modes_leave_them():
    graph_def = with_function()
    assert graphs.rewrite_graph_def(graph_def, "untag") == graph_def
    # The call is no call any more: TensorFlow has no gradient of it.
    tagged = graphs.rewrite_graph_def(graph_def, "tag")
    (body,) = graph_def.library.function
    assert list(tagged.library.function) == [body]
    ops = {node.name: node.op for node in tagged.node}
    assert ops["call"] == "IdentityN"
    assert [ops["call/" + node.name] for node in body.node_def] == [n.op for n in body.node_def]


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


def test_a_function_that_holds_them():
    lowered = Lowered(with_function())
    of_loss = lowered.gradient(lowered.tensor("call:0"), "logits")
    twice = lowered.gradient(of_loss, "logits")
    tensors = [lowered.tensor("call:0"), lowered.tensor("call:1"), of_loss, twice]
    feed = {"logits:0": LOGITS, "labels:0": LABELS, "scale:0": SCALE}
    loss, slope, gradient, row_sums = lowered.session.run(tensors, feed)
    oracle = reference.Reference(LOGITS)
    want = oracle.sparse_gradient(LABELS)
    assert_within_contract(loss, oracle.sparse_loss(LABELS), LOGITS)
    assert_within_contract(gradient, want, LOGITS)
    assert_within_contract(slope, in_exact(want, SCALE), LOGITS)
    np.testing.assert_allclose(row_sums, np.zeros((3, 3)), atol=1e-15)


def meta_graph_def():
    """As a Saver would write it, with the definitions of the ops of the graph."""
    meta_graph = tf.MetaGraphDef()
    with tf.Graph().as_default() as graph:
        tf.placeholder(tf.float32)
        meta_graph.CopyFrom(tf.train.export_meta_graph(graph=graph))
    meta_graph.graph_def.CopyFrom(kernel_graph(SPARSE, "float32"))
    meta_graph.meta_info_def.stripped_op_list.op.add(name=PREFIX + "SparseLoss")
    del meta_graph.meta_info_def.tags[:]
    meta_graph.meta_info_def.tags.append("serve")
    return meta_graph


def run_named(graph):
    with tf.Session(graph=graph) as session:
        feed = {"logits:0": LOGITS, "labels:0": LABELS, "scale:0": SCALE, "vectors:0": VECTORS}
        return session.run(list(RESULTS), feed)


def test_files_and_commands(tmp_path, capsys):
    wants = None
    path = tmp_path / "model.meta"
    path.write_bytes(meta_graph_def().SerializeToString())
    saved_model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    saved_model.meta_graphs.add().CopyFrom(meta_graph_def())
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    wants = Lowered(kernel_graph(SPARSE, "float32"))
    wants = wants.run([wants.tensor(n) for n in RESULTS], LOGITS, LABELS, VECTORS, SCALE)

    in_memory = graphs.rewrite_meta_graph(str(path))
    new = tmp_path / "new.meta"
    assert cli.main(["rewrite", str(path), str(new), "--mode", "logsumexp"]) == 0
    assert tf.MetaGraphDef.FromString(new.read_bytes()) == in_memory
    assert_is_stock(in_memory.graph_def)
    assert "Tf1xent" not in str(in_memory)
    with tf.Graph().as_default() as graph:
        tf.train.import_meta_graph(str(new))
        for got, want in zip(run_named(graph), wants):
            np.testing.assert_array_equal(got, want)

    graphs.rewrite_saved_model(tmp_path / "saved", tmp_path / "new")
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        tf.saved_model.load(session, ["serve"], str(tmp_path / "new"))
        for got, want in zip(run_named(graph), wants):
            np.testing.assert_array_equal(got, want)
    capsys.readouterr()
    assert cli.main(["inspect", str(new)]) == 0
    assert ": 0 cross-entropy ops" in capsys.readouterr().out


# --- What cannot be done ----------------------------------------------------------------------


def changed_node(**attributes):
    """A loss of float32 with other attributes: None takes one away."""
    graph_def = kernel_graph(SPARSE, "float32")
    (node,) = [node for node in graph_def.node if node.name == "xent"]
    for key, value in attributes.items():
        if key in node.attr:
            del node.attr[key]
        if isinstance(value, bytes):
            node.attr[key].s = value
        elif value is not None:
            node.attr[key].type = value.as_datatype_enum
    return graph_def, node


MALFORMED = {
    "no precise dtype": (dict(precise=None), GraphFileError, "`precise` must be float32"),
    "another one": (dict(precise=tf.float64), GraphFileError, "must be float32, got float64"),
    "no dtype": (dict(T=None), GraphFileError, "`T` must be one of float16"),
    "labels of int16": (dict(labels_type=tf.int16), GraphFileError, "int32, int64, got int16"),
    "invalid labels": (dict(invalid_labels=b"zero"), GraphFileError, "raise or nan, got 'zero'"),
    "a gradient": (dict(_gradient_op_type=b"Mine"), RewriteError, "gradient of its own, `Mine`"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_nodes_are_refused(name):
    attributes, error, message = MALFORMED[name]
    graph_def, _ = changed_node(**attributes)
    with pytest.raises(error, match=message) as raised:
        graphs.rewrite_graph_def(graph_def)
    assert "`xent`" in str(raised.value)


def test_a_missing_input_is_refused():
    graph_def, node = changed_node()
    del node.input[1]
    with pytest.raises(GraphFileError, match="`xent`, .*, must have two inputs, got 1"):
        graphs.rewrite_graph_def(graph_def)


# --- The report -------------------------------------------------------------------------------


def test_inspect_tells_what_they_need():
    report = graphs.inspect_graph(kernel_graph(DENSE, "half", [None, 7]))
    assert [op.name for op in report.ops] == ["xent", "gradient", "product", "in_labels"]
    assert [op.op_type for op in report.ops] == [
        PREFIX + op for op in ("DenseLoss", "DenseGradient", "DenseHessianProduct", "LabelGradient")
    ]
    assert {(op.dtype, op.shape) for op in report.ops} == {("float16", (None, 7))}
    assert report.ops[0].gradients == ("gradient", "in_labels")
    built = kernels.status().path is not None
    assert {op.verdict for op in report.ops} == {Verdict.AS_IT_IS if built else Verdict.REWRITE}
    assert report.needs_rewrite is not built
    assert report.unknown_ops == ()
    assert "tf1xent rewrite --mode logsumexp" in str(report)
    for kind in ("dense, kernel", "dense gradient, kernel", "label gradient, kernel"):
        assert kind in str(report)
    (call,) = [op for op in graphs.inspect_graph(with_function()).ops if op.name == "xent"]
    assert call.function == "f"
    assert call.verdict is Verdict.REWRITE
    assert "TensorFlow has no gradient for the call" in call.reason


@pytest.mark.parametrize("built", [True, False])
def test_the_verdict_depends_on_the_library(built):
    node = kernel_graph(SPARSE).node[-1]
    nothing = dict.fromkeys(["is_guarded", "labels_vary", "behind_loop", "behind_call"], False)
    nothing.update(in_loop=False, obstacle=None, broadcast=Broadcast.NONE, in_opaque_call=False)
    site = Site(node, kernels_are_there=built, **nothing)
    found, reason = verdict(site)
    assert found is (Verdict.AS_IT_IS if built else Verdict.REWRITE)
    assert ("not built for this TensorFlow" in reason) is not built
    assert "native library must be loaded" in reason


# --- With the library -------------------------------------------------------------------------


@pytest.fixture(scope="session")
def library():
    try:
        return kernels.library()
    except KernelsError as error:
        pytest.skip(str(error))


def run_both(graph_def, names, feed):
    """The tensors of a graph that holds the library's ops, and of the one that does not."""
    changed = graphs.rewrite_graph_def(graph_def)
    assert_is_stock(changed)
    found = []
    for imported in (graph_def, changed):
        with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
            tf.import_graph_def(imported, name="")
            fed = {graph.get_tensor_by_name(name + ":0"): value for name, value in feed.items()}
            fed = {t: np.asarray(value).astype(t.dtype.as_numpy_dtype) for t, value in fed.items()}
            found.append(session.run(names, fed))
    return zip(names, *found)


@pytest.mark.parametrize("dtype", ["float64", "float32", "half", "bfloat16"])
@pytest.mark.parametrize("kind", [SPARSE, DENSE])
def test_what_takes_their_place_is_what_they_were(library, kind, dtype):
    assert library is not None
    logits, labels = cases.rows(10, "float32")
    finite = np.abs(logits) < 1e4  # in half
    rows = np.all(finite | np.isneginf(logits), axis=1)
    logits, labels = logits[rows], labels[rows]
    vectors = np.random.RandomState(2).normal(size=logits.shape)
    if kind == DENSE:
        labels = cases.dense_labels(logits, labels, cases.DENSE_KINDS)
    graph_def = kernel_graph(kind, dtype, [None, 10])
    names = [name + ":0" for name in names_of(kind)] + ["xent:1"]
    feed = {"logits": logits, "labels": labels, "vectors": vectors, "scale": scale_of(logits)}
    tolerance = {"float64": 1e-12, "float32": 1e-4, "half": 2e-3, "bfloat16": 1.6e-2}[dtype]
    smallest = 1e-6 if dtype in ("half", "bfloat16") else 1e-30
    for name, was, became in run_both(graph_def, names, feed):
        assert was.dtype == became.dtype
        was, became = was.astype(np.float64), became.astype(np.float64)
        np.testing.assert_allclose(became, was, rtol=tolerance, atol=smallest, err_msg=name)


def test_graphs_of_our_own_losses(library):
    assert library is not None
    random = np.random.RandomState(5)
    feed = {"logits": random.normal(size=(5, 4)) * 3, "labels": [0, 3, 2, 1, 1]}
    feed["soft"] = random.uniform(size=(5, 4))
    with tf.Graph().as_default() as graph:
        logits = tf.placeholder(tf.float64, [None, 4], name="logits")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        soft = tf.placeholder(tf.float64, [None, 4], name="soft")
        losses = [
            nn.sparse_softmax_cross_entropy_with_logits(
                labels=labels, logits=logits, implementation="kernel"
            ),
            nn.softmax_cross_entropy_with_logits_v2(
                labels=soft, logits=logits, implementation="kernel"
            ),
            nn.weighted_sparse_softmax_cross_entropy_with_logits(
                labels, logits, label_smoothing=0.1, z_loss=0.2, implementation="kernel"
            ),
        ]
        for number, loss in enumerate(losses):
            tf.identity(loss, name=f"order0_{number}")
            for order in (1, 2, 3)[: 3 - number]:
                (loss,) = tf.gradients(loss * (1 + tf.square(loss)), logits)
                tf.identity(loss, name=f"order{order}_{number}")
        (mixed,) = tf.gradients(tf.square(tf.gradients(losses[1], soft)[0]), logits)
        tf.identity(mixed, name="mixed")
    graph_def = graph.as_graph_def()
    names = [node.name + ":0" for node in graph_def.node if node.name.startswith("order")]
    assert len(names) == 9
    assert sum(node.op.startswith(PREFIX) for node in graph_def.node) >= 8
    for name, was, became in run_both(graph_def, [*names, "mixed:0"], feed):
        np.testing.assert_allclose(became, was, rtol=1e-9, atol=1e-12, err_msg=name)
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        tf.import_graph_def(graphs.rewrite_graph_def(graph_def), name="")
        point = graph.get_tensor_by_name("logits:0")
        fed = {graph.get_tensor_by_name(name + ":0"): array for name, array in feed.items()}
        for number in range(2):
            value = graph.get_tensor_by_name(f"order1_{number}:0")
            (again,) = tf.gradients(value * (1 + tf.square(value)), point)
            was = graph.get_tensor_by_name(f"order2_{number}:0")
            np.testing.assert_allclose(*session.run([again, was], fed), rtol=1e-9, atol=1e-12)
