"""What rewrite_graph_def puts in the place of a fused op: its values and its derivatives, which
TensorFlow takes by itself, in all that the fused op can be given."""

import contextlib
import functools
import inspect

import mpmath
import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf

from tests.oracle import reference
from tests.support import cases, tolerances
from tests.support.loss_graph import DENSE_V2, SPARSE, LossGraph
from tests.support.tolerances import assert_within_contract
from tf1xent.graphs import rewrite_graph_def, rewrite_meta_graph

pytestmark = pytest.mark.exhaustive

OP_TYPES = {
    SPARSE: "SparseSoftmaxCrossEntropyWithLogits",
    DENSE_V2: "SoftmaxCrossEntropyWithLogits",
}
# How much of the logits' shape is known when the graph is imported.
STATIC, UNKNOWN_CLASSES, UNKNOWN_RANK = "static", "unknown classes", "unknown rank"
NUM_CLASSES = (1, 2, 10, 65, 1000)
LABELS_OF_MANY = ("one_hot", "random", "smoothed", "unnormalized")


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
        graph_def = self.changed(fused_graph_def(name, logits, labels))
        inputs = {"logits:0": logits, "labels:0": labels}
        (op,) = tf.import_graph_def(graph_def, inputs, ["xent"])
        return op.outputs[0]


class Stock(Fused):
    """The fused ops replaced by stock ops."""

    @staticmethod
    def changed(graph_def):
        return rewrite_graph_def(graph_def, "logsumexp")


class Graph(LossGraph):
    """A LossGraph that knows the op's output 1 too, as ("output_1",)."""

    def __init__(self, name, dtype, shape, labels_dtype=None, module=None):
        super().__init__(module or Stock(), name, dtype, labels_dtype, shape)
        self._derivatives[("output_1",)] = self.loss.op.outputs[1]


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


# --- Accuracy ---------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def rows(dtype, num_classes):
    """Logits, integer labels, and the oracle of the logits; the oracle takes its time."""
    logits, labels = cases.rows(num_classes, dtype, num_random=6 if num_classes <= 100 else 2)
    if num_classes > 100:
        logits, labels = logits[::3], labels[::3]
    return logits, labels, reference.Reference(logits)


@functools.lru_cache(maxsize=None)
def case(name, dtype, num_classes):
    """Logits, labels, and the oracle of the logits."""
    logits, labels, oracle = rows(dtype, num_classes)
    if name == SPARSE:
        return logits, labels, oracle
    if num_classes > 10:
        return logits, cases.dense_labels(logits, labels, LABELS_OF_MANY), oracle
    # Every kind of labels on every row.
    logits = np.repeat(logits, len(cases.DENSE_KINDS), axis=0)
    labels = np.repeat(labels, len(cases.DENSE_KINDS), axis=0)
    labels = cases.dense_labels(logits, labels, cases.DENSE_KINDS)
    return logits, labels, reference.Reference(logits)


@functools.lru_cache(maxsize=None)
def hessian_case(dtype, num_classes):
    """Logits, integer labels and unit vectors, and the Hessian columns that these pick."""
    logits, labels, _ = rows(dtype, num_classes)
    if num_classes > 2:
        logits, labels = logits[::2], labels[::2]
    logits, labels, vectors = cases.unit_vectors(logits, labels)
    return logits, labels, vectors, reference.Reference(logits).derivative_product([vectors])


def output_1_of(oracle, labels):
    """p - labels, and what the errors of its entries are measured by: the larger of the terms,
    which for a class with p_k > 1/2 are 1 - p_k and 1 - l_k."""
    p = oracle.probabilities()
    scale = np.empty(oracle.shape, object)
    exact = reference.exactly(labels)
    with mpmath.workdps(oracle.digits):
        for index, p_j in np.ndenumerate(p):
            pair = [p_j, exact[index]]
            if p_j > 0.5:
                pair = [1 - term for term in pair]
            scale[index] = max(abs(term) for term in pair)
        return p - exact, scale


ROUTES = [(dtype, num, UNKNOWN_RANK) for dtype in cases.PRECISE_DTYPES for num in NUM_CLASSES]
ROUTES += [("float32", 65, UNKNOWN_CLASSES), ("float32", 10, STATIC), ("float64", 1, STATIC)]
FIRST_ORDER = [("output_1",), ("logits",)]


@pytest.mark.parametrize("dtype, num_classes, known", ROUTES)
def test_sparse_value_and_gradient(dtype, num_classes, known):
    logits, labels, oracle = case(SPARSE, dtype, num_classes)
    graph = graph_of(SPARSE, dtype, num_classes, known)
    tensors = [graph.derivative(*arguments) for arguments in [()] + FIRST_ORDER]
    loss, output_1, gradient = graph.run_all(tensors, logits, labels)
    assert loss.dtype == output_1.dtype == gradient.dtype == np.dtype(dtype)
    assert_within_contract(loss, oracle.sparse_loss(labels), logits, what="loss")
    want = oracle.sparse_gradient(labels)
    assert_within_contract(output_1, want, logits, what="output 1")
    assert_within_contract(gradient, want, logits, what="gradient")


@pytest.mark.parametrize("dtype, num_classes, known", ROUTES)
def test_dense_value_and_gradients(dtype, num_classes, known):
    logits, labels, oracle = case(DENSE_V2, dtype, num_classes)
    graph = graph_of(DENSE_V2, dtype, num_classes, known)
    tensors = [graph.derivative(*a) for a in [()] + FIRST_ORDER + [("labels",)]]
    loss, output_1, gradient, of_labels = graph.run_all(tensors, logits, labels)
    assert loss.dtype == output_1.dtype == gradient.dtype == np.dtype(dtype)
    assert_within_contract(loss, oracle.dense_loss(labels), logits, what="loss")
    want, scale = output_1_of(oracle, labels)
    assert_within_contract(output_1, want, logits, scale, what="output 1")
    want, scale = oracle.dense_gradient(labels), tolerances.gradient_scale(oracle, labels)
    assert_within_contract(gradient, want, logits, scale, what="gradient")
    assert_within_contract(of_labels, oracle.labels_gradient(), logits, what="labels gradient")


@pytest.mark.parametrize("dtype, num_classes, known", ROUTES)
@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_hessian_entries(name, dtype, num_classes, known):
    logits, labels, vectors, of_p = hessian_case(dtype, num_classes)
    of_loss = of_p
    if name == DENSE_V2:
        labels = cases.dense_labels(logits, labels, cases.DENSE_KINDS)
        with mpmath.workdps(60):
            of_loss = of_p * reference.exactly(labels).sum(axis=1, keepdims=True)
    graph = graph_of(name, dtype, num_classes, known)
    tensors = [graph.derivative(*a) for a in [("logits", "logits"), ("output_1", "logits")]]
    from_loss, from_output_1 = graph.run_all(tensors, logits, labels, vectors)
    assert_within_contract(from_loss, of_loss, logits, what="from the loss")
    assert_within_contract(from_output_1, of_p, logits, what="from output 1")


@pytest.mark.parametrize("dtype", cases.PRECISE_DTYPES)
def test_mixed_derivatives(dtype):
    logits, labels, oracle = case(DENSE_V2, dtype, 10)
    graph = shared_graph(DENSE_V2, dtype)
    vectors = np.abs(np.random.RandomState(6).normal(size=logits.shape)).astype(dtype)
    units = np.eye(10, dtype=dtype)[np.arange(len(logits)) % 10]
    for vector in (vectors, units):
        tensors = [graph.derivative(*a) for a in [("labels", "logits"), ("logits", "labels")]]
        by_logits, by_labels = graph.run_all(tensors, logits, labels, vector)
        # A masked class adds nothing to the derivative by its label, so neither to this one.
        absent = np.isneginf(logits) & (labels == 0)
        counted = np.where(absent, 0, vector).astype(dtype)
        scale = tolerances.gradient_scale(oracle, counted)
        want = oracle.mixed_product(counted)
        assert_within_contract(by_logits, want, logits, scale, what="labels, logits")

        want = oracle.mixed_product_transposed(vector)
        want[absent] = mpmath.mpf(0)
        largest = np.abs(vector.astype(np.float64)).max(axis=1, keepdims=True)
        scale = reference.exactly(np.broadcast_to(largest, logits.shape))
        assert_within_contract(by_labels, want, logits, scale, what="logits, labels")


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_third_order(name):
    random = np.random.RandomState(3)
    logits = random.normal(size=(5, 4)) * 2.0
    logits[0] += [9.0, 0.0, 0.0, 0.0]
    labels = np.array([0, 3, 2, 1, 0])
    soft = np.eye(4)[labels] + random.uniform(size=(5, 4))
    fed = labels if name == SPARSE else soft
    u, v = random.normal(size=(2, 5, 4))
    graph = Graph(name, "float64", [5, 4])
    got = graph.run(("logits", "logits", "logits"), logits, fed, u, v)

    def product(point):
        return graph.run(("logits", "logits"), point, fed, u, v)

    # Row i of the product depends on row i of the logits alone; so does the bilinear form's.
    for j in range(4):
        unit = np.eye(4)[[j] * 5]
        slope = np.sum(v * reference.central_difference(product, logits, unit), axis=1)
        np.testing.assert_allclose(got[:, j], slope, rtol=1e-6, atol=1e-9)
    oracle = reference.Reference(logits)
    want = oracle.derivative_product([u, v], None if name == SPARSE else soft)
    np.testing.assert_allclose(got, want.astype(np.float64), rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
@pytest.mark.parametrize("dtype", ["half", "bfloat16"])
def test_low_precision_is_computed_in_float32_and_rounded_once(name, dtype):
    low = tf.as_dtype(dtype).as_numpy_dtype
    random = np.random.RandomState(8)
    logits = (random.normal(size=(8, 10)) * 3.0).astype(np.float32)
    logits[0] = 0.0
    logits[0, 3] = 9.0
    logits[1, 2] = -np.inf
    labels = np.array([3, 0, 1, 5, 9, 4, 0, 2])
    logits = logits.astype(low).astype(np.float32)  # what the op is given, exactly
    unit = np.eye(10, dtype=np.float32)[labels]
    fed = labels if name == SPARSE else unit
    graph = Graph(name, dtype, [8, 10], labels_dtype_of(name, dtype))
    orders = [(), ("output_1",), ("logits",), ("logits", "logits")]
    tensors = [graph.derivative(*arguments) for arguments in orders]
    assert all(tensor.dtype == dtype for tensor in tensors)
    oracle = reference.Reference(logits)
    gradient = oracle.sparse_gradient(labels)
    wants = [oracle.sparse_loss(labels), gradient, gradient, oracle.derivative_product([unit])]
    # Half of the last place of 11 or 8 binary digits, and of the smallest half number.
    roundoff, smallest = (2.0**-11, 2.0**-25) if dtype == "half" else (2.0**-8, 1e-38)
    for got, want in zip(graph.run_all(tensors, logits, fed, unit), wants):
        want = want.astype(np.float64)
        error = np.abs(got.astype(np.float64) - want)
        assert np.all(error <= 1.01 * roundoff * np.abs(want) + smallest), error.max()


# --- As TensorFlow's fused op -----------------------------------------------------------------


BROADCASTS = [
    # logits shape, labels shape
    ((4, 3), (1, 3)),
    ((1, 3), (4, 3)),
    ((4, 3), (4, 1)),
    ((4, 1), (4, 3)),
    ((4, 1), (1, 3)),
]


@pytest.mark.parametrize("logits_shape, labels_shape", BROADCASTS)
def test_dense_inputs_are_broadcast(logits_shape, labels_shape):
    random = np.random.RandomState(4)
    logits = random.normal(size=logits_shape)
    labels = random.uniform(size=labels_shape)
    broadcast = np.broadcast(logits, labels).shape
    spread = np.broadcast_to(labels, broadcast)
    oracle = reference.Reference(np.broadcast_to(logits, broadcast))
    # Derivatives in what is broadcast are sums of those in what came of it.
    by_logits = summed_to(oracle.dense_gradient(spread), logits_shape)
    vector = np.full(logits_shape, 3.0) + logits
    product = oracle.derivative_product([np.broadcast_to(vector, broadcast)], spread)
    by_labels = summed_to(oracle.labels_gradient(), labels_shape)
    wants = [by_logits, by_labels, summed_to(product, logits_shape)]

    fused = Graph(DENSE_V2, "float64", None, module=Fused())
    tensors = [fused.derivative(*arguments) for arguments in [(), ("output_1",)]]
    wants = fused.run_all(tensors, logits, labels) + wants

    graph = shared_graph(DENSE_V2, "float64")
    orders = [(), ("output_1",), ("logits",), ("labels",), ("logits", "logits")]
    tensors = [graph.derivative(*arguments) for arguments in orders]
    for got, want in zip(graph.run_all(tensors, logits, labels, vector), wants):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


def test_static_shapes_are_broadcast():
    shapes = []
    for module in (Fused(), Stock()):
        with tf.Graph().as_default():
            inputs = [tf.placeholder(tf.float32, shape) for shape in ([4, 3], [1, 3])]
            for logits, labels in (inputs, inputs[::-1]):
                outputs = module.loss(DENSE_V2, labels, logits).op.outputs
                shapes.append([output.shape.as_list() for output in outputs])
    assert shapes == [[[4], [4, 3]]] * 4


def summed_to(values, shape):
    axes = tuple(i for i, size in enumerate(shape) if size != values.shape[i])
    return np.sum(values, axis=axes, keepdims=True).astype(np.float64)


INF, NAN = np.inf, np.nan
EDGE_ROWS = [
    # logits, label
    ([1.0, -INF, 2.0], 0),  # a masked class
    ([-INF, 60.0, -INF], 1),
    ([0.0, -INF, 0.0], 1),  # the label's own class masked
    ([0.5, NAN, 1.0], 0),
    ([0.5, NAN, 1.0], 1),
    ([INF, 0.0, 1.0], 0),
    ([INF, 0.0, 1.0], 1),
    ([INF, NAN, -INF], 1),
    ([-INF, -INF, -INF], 2),
    ([3.0, 3.0, 3.0], 2),  # between them all, rows that must not notice
    ([-1e30, 1e30, 0.0], 0),
]


def edge_values(name, module=None):
    """EDGE_ROWS, a graph, and its loss, output 1 and gradient on them; the labels as fed."""
    logits = np.array([row for row, _ in EDGE_ROWS], np.float32)
    labels = np.array([label for _, label in EDGE_ROWS])
    fed = labels if name == SPARSE else np.eye(3)[labels]
    graph = Graph(name, "float32", None, module=module) if module else shared_graph(name, "float32")
    tensors = [graph.derivative(*a) for a in [()] + FIRST_ORDER]
    return logits, labels, graph, graph.run_all(tensors, logits, fed), fed


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_edge_rows(name):
    logits, labels, graph, results, fed = edge_values(name)
    vectors = np.array([[1.0, -2.0, 0.5]] * len(logits), np.float32)
    orders = [("logits", "logits"), ("output_1", "logits")]
    tensors = [graph.derivative(*arguments) for arguments in orders]
    results += graph.run_all(tensors, logits, fed, vectors)
    oracle = reference.Reference(logits)
    gradient, product = oracle.sparse_gradient(labels), oracle.derivative_product([vectors])
    scale = oracle.product_scale([vectors])
    wants = [(oracle.sparse_loss(labels), None), (gradient, None), (gradient, None)]
    wants += [(product, scale), (product, scale)]
    infinite = np.array([bool(want == np.inf) for want in wants[0][0]])
    assert infinite.sum() == 1
    for what, got, (want, scale) in zip(["loss"] + FIRST_ORDER + orders, results, wants):
        if what != "loss":  # where the loss is infinite its derivative is whatever comes out
            got, want = got[~infinite], want[~infinite]
            scale = None if scale is None else scale[~infinite]
        rows_kept = logits if what == "loss" else logits[~infinite]
        assert_within_contract(got, want, rows_kept, scale, what=str(what))


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_edge_rows_are_those_of_the_fused_op(name):
    """But for a masked class with a dense label of 0, where TensorFlow's loss is NaN."""
    logits, _, _, (loss, output_1, _), _ = edge_values(name)
    _, _, _, (fused_loss, fused_output_1, _), _ = edge_values(name, Fused())
    masked = np.isneginf(logits).any(axis=1) & (name == DENSE_V2)
    np.testing.assert_allclose(loss[~masked], fused_loss[~masked], rtol=1e-6)
    np.testing.assert_allclose(output_1, fused_output_1, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_no_rows_and_one_class(name):
    orders = [(), ("output_1",), ("logits",), ("logits", "logits"), ("output_1", "logits")]
    for shape, known in [
        ((0, 10), STATIC),
        ((0, 10), UNKNOWN_RANK),
        ((0, 1), UNKNOWN_RANK),
        ((4, 1), UNKNOWN_RANK),
    ]:
        graph = graph_of(name, "float32", shape[1], known)
        tensors = [graph.derivative(*arguments) for arguments in orders]
        logits = np.full(shape, 7.0)
        labels = np.zeros(shape[:1], int) if name == SPARSE else np.ones(shape)
        loss, *derivatives = graph.run_all(tensors, logits, labels, np.full(shape, 3.0))
        np.testing.assert_array_equal(loss, np.zeros(shape[:1]))
        for derivative in derivatives:
            np.testing.assert_array_equal(derivative, np.zeros(shape))


@pytest.mark.parametrize("dtype, labels_dtype", [("float32", "int64"), ("float64", "int32")])
def test_invalid_labels(dtype, labels_dtype):
    """Each of the outputs and of the derivatives by itself says so, as TensorFlow's op does."""
    invalid = [3, -1, 2**31 - 1, -(2**31)]
    if labels_dtype == "int64":
        invalid += [2**32 + 1, -(2**32) + 1, 2**63 - 1]
    logits = np.zeros((2, 3))
    graph = shared_graph(SPARSE, dtype)
    assert graph.labels.dtype == labels_dtype
    fused = Graph(SPARSE, dtype, None, labels_dtype, Fused())
    orders = [(), ("output_1",), ("logits",), ("logits", "logits")]
    for label in invalid:
        for arguments in orders:
            with pytest.raises(tf.errors.InvalidArgumentError):
                graph.run(arguments, logits, [1, label], np.ones((2, 3)))
        with pytest.raises(tf.errors.InvalidArgumentError):
            fused.run((), logits, [1, label])


MISMATCHES = [
    # name, logits shape, labels shape
    (SPARSE, (3, 4), (2,)),
    (SPARSE, (2, 4), (3,)),
    (SPARSE, (1, 4), (3,)),
    (SPARSE, (3, 4), (1,)),
    (SPARSE, (3, 4), (0,)),
    (SPARSE, (0, 4), (3,)),
    (SPARSE, (3, 4), ()),
    (SPARSE, (3, 4), (3, 1)),
    (SPARSE, (4,), (4,)),
    (SPARSE, (4,), ()),
    (SPARSE, (3, 4, 2), (3,)),
    (SPARSE, (3, 0), (3,)),
    (SPARSE, (0, 0), (0,)),
    (DENSE_V2, (3, 4), (2, 4)),
    (DENSE_V2, (3, 4), (3, 5)),
    (DENSE_V2, (3, 4, 2), (3, 4, 2)),
    (DENSE_V2, (4,), (4,)),
    (DENSE_V2, (), ()),
]


@pytest.mark.parametrize("name, logits_shape, labels_shape", MISMATCHES)
def test_sizes_that_do_not_fit(name, logits_shape, labels_shape):
    fused = Graph(name, "float32", None, module=Fused())
    graph = shared_graph(name, "float32")
    fed = np.zeros(logits_shape), np.zeros(labels_shape)
    for arguments in [(), ("output_1",)]:
        with pytest.raises(tf.errors.InvalidArgumentError):
            fused.run(arguments, *fed)
        with pytest.raises(tf.errors.InvalidArgumentError):
            graph.run(arguments, *fed)


# --- The nodes --------------------------------------------------------------------------------

# All are ops of TF 1.13, which other runtimes know too.
STOCK_OPS = set(
    "Add ArgMax Cast Const Equal Exp ExpandDims FloorDiv GatherNd GreaterEqual Identity IdentityN "
    "Less Log LogicalAnd Minimum Mul Neg Pack Pad Range RealDiv Reshape Select Shape Sqrt "
    "StopGradient Sub Sum Unpack ZerosLike".split()
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


def node_of(graph_def, name):
    (node,) = [node for node in graph_def.node if node.name == name]
    return node


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


# --- Control flow and XLA ---------------------------------------------------------------------


@contextlib.contextmanager
def control_flow_v1():
    if not hasattr(tf, "control_flow_v2_enabled"):  # 1.13 has no other
        yield
        return
    enabled = tf.control_flow_v2_enabled()
    tf.disable_control_flow_v2()
    try:
        yield
    finally:
        if enabled:
            tf.enable_control_flow_v2()


LOGITS = np.array([[0.5, -1.25, 2.0], [9.0, 0.0, 1.0], [0.0, 8.0, 0.5]])
LABELS = np.array([2, 0, 2])
SOFT_LABELS = np.array([[0.25, 0.25, 0.5], [0.5, 0.5, 0.5], [0.0, 0.0, 0.0]])
WEIGHTS = np.array([1.0, -2.0, 0.5])
VECTOR = np.array([[1.0, -2.0, 0.5], [0.25, 1.0, 0.0], [1.0, 1.0, -1.0]])


def both_losses(logits):
    """A branch of sparse and a branch of dense losses, as functions without arguments."""
    return (
        lambda: tf.reduce_sum(
            WEIGHTS
            * tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=tf.constant(LABELS), logits=logits
            )
        ),
        lambda: tf.reduce_sum(
            WEIGHTS
            * tf.nn.softmax_cross_entropy_with_logits_v2(
                labels=tf.constant(SOFT_LABELS), logits=logits
            )
        ),
    )


def cond_loss(logits, is_sparse):
    return tf.cond(is_sparse, *both_losses(logits))


def loop_loss(logits, is_sparse):
    """The loss of 1, 2 and 3 times the logits; the branch inside of the loop."""

    def body(turn, total):
        return turn + 1, total + cond_loss(tf.cast(turn, tf.float64) * logits, is_sparse)

    start = (tf.constant(1), tf.constant(0.0, tf.float64))
    return tf.while_loop(lambda turn, _: turn < 4, body, start)[1]


def rewritten_meta_graph(loss_of):
    with control_flow_v1(), tf.Graph().as_default() as graph:
        logits = tf.placeholder(tf.float64, [None, 3], name="logits")
        is_sparse = tf.placeholder(tf.bool, [], name="is_sparse")
        tf.identity(loss_of(logits, is_sparse), name="loss")
        meta_graph = tf.train.export_meta_graph()
        ops = {op.type for op in graph.get_operations()}
    assert "Switch" in ops and set(OP_TYPES.values()) < ops
    return rewrite_meta_graph(meta_graph)


@pytest.mark.parametrize("loss_of, turns", [(cond_loss, [1]), (loop_loss, [1, 2, 3])])
def test_v1_control_flow(loss_of, turns):
    meta_graph = rewritten_meta_graph(loss_of)
    with control_flow_v1(), tf.Graph().as_default() as graph, tf.Session() as session:
        tf.train.import_meta_graph(meta_graph)
        assert not set(OP_TYPES.values()) & {op.type for op in graph.get_operations()}
        names = ("logits:0", "is_sparse:0", "loss:0")
        logits, is_sparse, loss = [graph.get_tensor_by_name(name) for name in names]
        tensors = [loss] + tf.gradients(loss, logits)
        if loss_of is cond_loss:  # TensorFlow has no second derivative of v1 loops
            tensors += tf.gradients(tf.reduce_sum(tensors[1] * VECTOR), logits)
        for branch in (True, False):
            got = session.run(tensors, {logits: LOGITS, is_sparse: branch})
            for value, want in zip(got, control_flow_wants(turns, branch)):
                np.testing.assert_allclose(value, want, rtol=1e-12, atol=1e-14)


def control_flow_wants(turns, is_sparse):
    """Value, gradient and Hessian product of the loss summed over the turns."""
    wants = []
    for turn in turns:
        oracle = reference.Reference(turn * LOGITS)
        if is_sparse:
            value, gradient = oracle.sparse_loss(LABELS), oracle.sparse_gradient(LABELS)
        else:
            value, gradient = oracle.dense_loss(SOFT_LABELS), oracle.dense_gradient(SOFT_LABELS)
        product = oracle.derivative_product([VECTOR], None if is_sparse else SOFT_LABELS)
        weights = WEIGHTS[:, np.newaxis]
        parts = [np.sum(WEIGHTS * value), turn * weights * gradient, turn**2 * weights * product]
        wants.append([np.asarray(part).astype(np.float64) for part in parts])
    return [sum(parts) for parts in zip(*wants)]


XLA_LOGITS = np.array([[0.5, -1.25, 2.0], [9.0, 0.0, 1.0], [0.0, 8.0, 0.5], [1.0, -np.inf, 0.0]])
XLA_LABELS = np.array([2, 0, 3, 0])


class CompiledStock(Stock):
    """Fused ops that somebody marked for XLA, replaced by stock ops."""

    @staticmethod
    def changed(graph_def):
        xent = node_of(graph_def, "xent")
        xent.attr["_XlaCompile"].b = True
        xent.attr["_XlaScope"].s = b"jit_scope_0"
        xent.attr["_XlaSeparateCompiledGradients"].b = False
        return rewrite_graph_def(graph_def)


def test_xla():
    """An invalid label is an error on a CPU, but in compiled code a row of NaN."""
    graph = Graph(SPARSE, "float64", [None, 3], module=CompiledStock())
    orders = [(), ("output_1",), ("logits",)]
    tensors = [graph.derivative(*arguments) for arguments in orders]
    options, metadata = tf.RunOptions(output_partition_graphs=True), tf.RunMetadata()
    feeds = {graph.logits: XLA_LOGITS, graph.labels: XLA_LABELS}
    with tf.Session(graph=graph.graph) as session:
        results = session.run(tensors, feeds, options, metadata)
    assert "_XlaRun" in {node.op for part in metadata.partition_graphs for node in part.node}
    valid = XLA_LABELS < 3
    oracle, labels = reference.Reference(XLA_LOGITS[valid]), XLA_LABELS[valid]
    wants = [oracle.sparse_loss(labels)] + [oracle.sparse_gradient(labels)] * 2
    for got, want in zip(results, wants):
        assert np.all(np.isnan(got[~valid]))
        np.testing.assert_allclose(got[valid], want.astype(np.float64), rtol=1e-12, atol=1e-15)


def compiled_sparse(logits):
    """Loss, output 1, gradient and Hessian product, with one invalid label."""
    loss = Stock().loss(SPARSE, tf.constant(XLA_LABELS), logits)
    (gradient,) = tf.gradients(loss, logits)
    (product,) = tf.gradients(gradient[:, 0], logits)
    return [loss, loss.op.outputs[1], gradient, product]


def test_xla_in_a_function():
    function = getattr(tensorflow, "function", None)
    options = [] if function is None else inspect.signature(function).parameters
    if "jit_compile" not in options:
        pytest.skip("this TensorFlow has no tf.function(jit_compile=True)")
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(XLA_LOGITS)
        tensors = function(compiled_sparse, autograph=False, jit_compile=True)(logits)
        loss, output_1, gradient, product = session.run(tensors)
    valid = XLA_LABELS < 3
    for values in (loss, output_1, gradient):
        assert np.all(np.isnan(values[~valid]))
    oracle = reference.Reference(XLA_LOGITS[valid])
    labels = XLA_LABELS[valid]
    unit = np.eye(3)[[0, 0, 0]]
    wants = [oracle.sparse_loss(labels), *[oracle.sparse_gradient(labels)] * 2]
    wants.append(oracle.derivative_product([unit]))
    for got, want in zip((loss, output_1, gradient, product), wants):
        np.testing.assert_allclose(got[valid], want.astype(np.float64), rtol=1e-12, atol=1e-15)
