"""What a caller sees besides the numbers: shapes, static shapes, dtypes, names, errors and ops.

Stock TensorFlow is the reference here: the same call is made with tf.nn in a graph of its own.
"""

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.oracle import reference
from tests.support import cases
from tests.support.loss_graph import DENSE_V1, DENSE_V2, NAMES, SPARSE, LossGraph, labels_shape
from tests.support.tolerances import assert_within_contract
from tf1xent import nn
from tf1xent.errors import KernelsError


def _random_case(concrete, dtype="float32", seed=1):
    """Logits and int labels of a shape, which may have no rows."""
    random = np.random.RandomState(seed)
    logits = random.normal(size=concrete).astype(dtype)
    return logits, random.randint(concrete[-1], size=concrete[:-1])


def _dense_of(labels, num_classes):
    return np.eye(num_classes)[labels]


def _shape_id(shape):
    return shape.name


@pytest.mark.combinations
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
@pytest.mark.parametrize("shape", cases.SHAPES, ids=_shape_id)
def test_values_and_derivatives_for_every_shape(name, shape):
    logits, labels = _random_case(shape.concrete)
    num_classes = shape.concrete[-1]
    fed = labels if name == SPARSE else _dense_of(labels, num_classes)
    graph = LossGraph(nn, name, "float32", logits_shape=shape.static)
    vector = np.random.RandomState(2).normal(size=shape.concrete).astype(np.float32)
    paths = [(), ("logits",), ("logits", "logits")]
    tensors = [graph.derivative(*path) for path in paths]
    loss, gradient, product = graph.run_all(tensors, logits, fed, vector)
    assert loss.shape == tuple(shape.concrete[:-1])
    assert gradient.shape == product.shape == tuple(shape.concrete)

    rows, vectors = logits.reshape(-1, num_classes), vector.reshape(-1, num_classes)
    row_labels = labels.reshape(-1)
    oracle = reference.Reference(rows)
    assert_within_contract(loss.reshape(-1), oracle.sparse_loss(row_labels), rows)
    got = gradient.reshape(rows.shape)
    assert_within_contract(got, oracle.sparse_gradient(row_labels), rows)
    want, scale = oracle.derivative_product([vectors]), oracle.product_scale([vectors])
    assert_within_contract(product.reshape(rows.shape), want, rows, scale)


@pytest.mark.combinations
@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
@pytest.mark.parametrize("shape", cases.SHAPES, ids=_shape_id)
def test_static_shapes_are_those_of_stock_tensorflow(name, shape):
    ours, stock = (
        LossGraph(module, name, "float32", logits_shape=shape.static) for module in (nn, tf.nn)
    )
    assert _static(ours.loss) == _static(stock.loss)
    assert _static(ours.derivative("logits")) == _static(ours.logits)


def _static(tensor):
    return None if tensor.shape.ndims is None else tensor.shape.as_list()


@pytest.mark.parametrize(
    "logits_shape, sparse_shape",
    [
        (None, (3,)),
        (None, (3, 2)),
        ((None, 4), (3,)),
        ((3, None), None),
        ((3, 4), None),
        ((2, None, 4), (None, 5)),
        ((None, None, 4), None),
        (None, ()),
    ],
)
def test_static_shapes_merge_what_logits_and_labels_know(logits_shape, sparse_shape):
    """Stock TensorFlow knows as much or less, depending on its version and on the rank."""
    shapes = []
    for module in (nn, tf.nn):
        with tf.Graph().as_default():
            logits = tf.placeholder("float32", logits_shape)
            labels = tf.placeholder("int32", sparse_shape)
            shapes.append(getattr(module, SPARSE)(labels=labels, logits=logits).shape)
            merged = labels.shape.merge_with(logits.shape[:-1])
    ours, stock = shapes
    assert str(ours) == str(merged)
    assert str(ours.merge_with(stock)) == str(ours)


@pytest.mark.parametrize("labels_dtype", cases.LABELS_DTYPES)
@pytest.mark.parametrize("logits_dtype", cases.LOGITS_DTYPES)
@pytest.mark.parametrize("static", [[None, 4], [2, None, 4], None])
def test_dtypes(logits_dtype, labels_dtype, static):
    concrete = [2, 3, 4] if static is None or len(static) == 3 else [3, 4]
    logits, labels = _random_case(concrete)
    graph = LossGraph(nn, SPARSE, logits_dtype, labels_dtype, static)
    loss, gradient = graph.run_all([graph.loss, graph.derivative("logits")], logits, labels)
    assert graph.loss.dtype == graph.derivative("logits").dtype == logits_dtype
    tolerance = {"half": 2e-3, "bfloat16": 2e-2}.get(logits_dtype, 1e-6)
    rows = logits.reshape(-1, 4)
    want = reference.Reference(rows).sparse_gradient(labels.reshape(-1)).astype(np.float64)
    np.testing.assert_allclose(
        gradient.astype(np.float64).reshape(-1, 4), want, rtol=0, atol=tolerance
    )
    assert loss.shape == labels.shape


@pytest.mark.parametrize("name", [DENSE_V1, DENSE_V2])
@pytest.mark.parametrize("labels_dtype", ["int32", "float32", "float64", "half", "bool"])
def test_dense_labels_of_any_dtype_are_cast(name, labels_dtype):
    logits, labels = _random_case([3, 4], "float64")
    graph = LossGraph(nn, name, "float64", labels_dtype, [None, 4])
    loss = graph.run((), logits, _dense_of(labels, 4))
    assert_within_contract(loss, reference.Reference(logits).sparse_loss(labels), logits)


# --- Names ------------------------------------------------------------------------------------

_STATIC = {"vector": [4], "matrix": [3, 4], "sequence": [2, 3, 4], "unknown": None}


def _result_names(module, name, logits_dtype, static):
    """The names of five results in one graph: by default and named, twice, and within a scope."""
    with tf.Graph().as_default():
        logits = tf.placeholder(logits_dtype, static)
        labels_dtype = "int32" if name == SPARSE else logits_dtype
        labels = tf.placeholder(labels_dtype, labels_shape(name, static))

        def result(**kwargs):
            return getattr(module, name)(labels=labels, logits=logits, **kwargs).name

        names = [result(), result(), result(name="xent")]
        with tf.name_scope("tower"):
            return names + [result(name="xent"), result()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "rank, dtype",
    [*((rank, "float32") for rank in sorted(_STATIC)), ("matrix", "half"), ("unknown", "half")],
)
def test_results_bear_the_names_that_stock_tensorflow_gives(name, rank, dtype):
    ours, stock = (_result_names(module, name, dtype, _STATIC[rank]) for module in (nn, tf.nn))
    assert ours == stock


@pytest.mark.parametrize("name", NAMES)
def test_a_result_can_be_fetched_by_its_old_name(name):
    logits, labels = _random_case([3, 4])
    with tf.Graph().as_default() as graph, tf.Session() as session:
        fed = labels if name == SPARSE else _dense_of(labels, 4).astype(np.float32)
        loss = getattr(nn, name)(labels=fed, logits=tf.constant(logits), name="xent")
        suffix = "xent:0" if name == SPARSE else "Reshape_2:0"
        tensor = graph.get_tensor_by_name("xent/" + suffix)
        by_name, direct = session.run([tensor, loss])
    np.testing.assert_array_equal(by_name, direct)


# --- Errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels_dtype", cases.LABELS_DTYPES)
@pytest.mark.parametrize("static", [[None, 4], [None, None], None])
def test_labels_out_of_range_raise_and_name_the_value(labels_dtype, static):
    graph = LossGraph(nn, SPARSE, "float32", labels_dtype, static)
    gradient = graph.derivative("logits")
    logits = np.zeros((3, 4), np.float32)
    pattern = r"Received a label value of {} which is outside the valid range of \[0, 4\)"
    for label in (-1, 4, 100, 2**31 - 1):
        labels = np.array([0, label, 3])
        for tensor in (graph.loss, gradient):
            with pytest.raises(tf.errors.InvalidArgumentError, match=pattern.format(label)):
                graph.run_all([tensor], logits, labels)
    assert np.all(np.isfinite(graph.run((), logits, np.array([0, 1, 3]))))


def test_a_label_beyond_32_bits_is_not_cut_short():
    graph = LossGraph(nn, SPARSE, "float32", "int64", [None, 4])
    with pytest.raises(tf.errors.InvalidArgumentError, match="Received a label value of"):
        graph.run((), np.zeros((1, 4)), np.array([2**32 + 1]))


def test_labels_out_of_range_raise_in_many_dimensions_and_many_classes():
    for concrete in ([2, 3, 4], [5, 80], [7], [2, 20000]):
        graph = LossGraph(nn, SPARSE, "float64", "int32", concrete)
        logits, labels = _random_case(concrete, "float64")
        labels = np.asarray(labels)
        labels.flat[-1] = concrete[-1]
        pattern = r"label value of {0} which is outside the valid range of \[0, {0}\)"
        with pytest.raises(tf.errors.InvalidArgumentError, match=pattern.format(concrete[-1])):
            graph.run(("logits",), logits, labels)


def _build_error(module, name, logits_shape, sparse_labels_shape, logits_dtype, labels_dtype):
    with tf.Graph().as_default():
        logits = tf.placeholder(logits_dtype, logits_shape)
        labels = tf.placeholder(labels_dtype, sparse_labels_shape)
        try:
            getattr(module, name)(labels=labels, logits=logits)
        except KernelsError:
            raise
        except Exception as error:  # whatever it is, ours is to be the same
            return type(error)
    return None


@pytest.mark.parametrize(
    "name, logits_shape, given_labels_shape, logits_dtype, labels_dtype",
    [
        (SPARSE, [], [], "float32", "int32"),
        (SPARSE, [3, 4], [3, 4], "float32", "int32"),
        (SPARSE, [3, 4], [], "float32", "int32"),
        (SPARSE, [3, 4], [2], "float32", "int32"),
        (SPARSE, [2, 3, 4], [3, 2], "float32", "int32"),
        (SPARSE, [3, 4], [3], "float32", "float32"),
        (SPARSE, [3, 4], [3], "float32", "int16"),
        (SPARSE, [3, 4], [3], "int32", "int32"),
        (DENSE_V2, [3, 4], [2, 4], "float32", "float32"),
        (DENSE_V2, [3, 4], [3, 5], "float32", "float32"),
        (DENSE_V2, [3, 4], [3, 4], "int32", "int32"),
        (DENSE_V1, [3, 4], [2, 4], "float32", "float32"),
    ],
)
def test_what_stock_tensorflow_refuses_to_build_is_refused_alike(
    name, logits_shape, given_labels_shape, logits_dtype, labels_dtype
):
    case = (name, logits_shape, given_labels_shape, logits_dtype, labels_dtype)
    stock = _build_error(tf.nn, *case)
    assert stock is not None
    assert _build_error(nn, *case) is stock


def test_sizes_that_only_the_run_can_tell_are_refused_by_the_run():
    graph = LossGraph(nn, SPARSE, "float32", "int32", [None, None])
    for static in ([None, None], [None, None, None], None):
        graph = LossGraph(nn, SPARSE, "float32", "int32", static)
        concrete = [3, 4] if static is None else [3] * (len(static) - 1) + [4]
        labels = np.zeros([2] * (len(concrete) - 1), np.int32)
        with pytest.raises(tf.errors.InvalidArgumentError):
            graph.run((), np.zeros(concrete), labels)
    graph = LossGraph(nn, DENSE_V2, "float32", "float32", [None, None])
    with pytest.raises(tf.errors.InvalidArgumentError):
        graph.run((), np.zeros((3, 4)), np.zeros((2, 4)))


# --- What a graph is made of --------------------------------------------------------------------

_SECOND_ORDER = ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "OneHot")


def _ancestors(tensors):
    """The ops that must run for `tensors`."""
    seen = set()
    pending = [tensor.op for tensor in tensors]
    while pending:
        op = pending.pop()
        if op not in seen:
            seen.add(op)
            pending.extend(tensor.op for tensor in op.inputs)
            pending.extend(op.control_inputs)
    return seen


@pytest.mark.parametrize("num_classes", [10, 100, None])
def test_first_order_of_the_sparse_loss_needs_neither_argmax_nor_products(num_classes):
    graph = LossGraph(nn, SPARSE, "float32", logits_shape=[None, num_classes])
    graph.derivative("logits")
    types = {op.type for op in graph.graph.get_operations()}
    assert not types & set(_SECOND_ORDER + ("ArgMax",)), types


@pytest.mark.parametrize("name", [DENSE_V1, DENSE_V2])
@pytest.mark.parametrize("num_classes", [10, 100, None])
def test_first_order_of_the_dense_loss_needs_no_products(name, num_classes):
    graph = LossGraph(nn, name, "float32", logits_shape=[None, num_classes])
    graph.derivative("logits")
    types = {op.type for op in graph.graph.get_operations()}
    assert not types & set(_SECOND_ORDER), types


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
@pytest.mark.parametrize("num_classes", [10, 100, None])
def test_the_gradient_computes_nothing_but_itself(name, num_classes):
    """Of the ops that tf.gradients adds, every one that yields a matrix is needed for a gradient.

    One prepared for second derivatives would be read by no first derivative. What TensorFlow
    itself adds does not count: zeros for outputs that have no gradient, and on 1.13, where matrices
    are broadcast by adding zeros (see `_tf.broadcast_to`), the sum's gradient in those.
    """
    graph = LossGraph(nn, name, "float32", logits_shape=[None, num_classes])
    before = set(graph.graph.get_operations())
    arguments = ["logits", "labels"] if name == DENSE_V2 else ["logits"]
    with graph.graph.as_default():
        gradients = tf.gradients(graph.loss, [getattr(graph, a) for a in arguments])
    idle = set(graph.graph.get_operations()) - before - _ancestors(gradients)
    matrices = sorted(
        op.name
        for op in idle
        if op.type != "ZerosLike" and any(out.shape.ndims not in (0, 1) for out in op.outputs)
    )
    if not hasattr(tf, "vectorized_map"):  # TF 1.13
        matrices = [name for name in matrices if not re.search("/rows/add(_1)?_grad/", name)]
    assert not matrices


@pytest.mark.parametrize("name", NAMES)
def test_only_the_third_derivative_costs_what_the_third_derivative_needs(name):
    """Each order adds about as many ops as the one before: closed forms, not nested rules."""
    graph = LossGraph(nn, name, "float32", logits_shape=[None, 10])
    counts = [len(_ancestors([graph.loss]))]
    for order in (1, 2, 3, 4):
        derivative = graph.derivative(*["logits"] * order)
        counts.append(len(_ancestors([derivative])))
    assert counts[1] < 3 * counts[0], counts
    assert counts[2] < 4 * counts[1], counts
    assert counts[4] < 3 * counts[3], counts


@pytest.mark.parametrize("name", NAMES)
def test_first_order_uses_no_random_ops_and_no_state(name):
    graph = LossGraph(nn, name, "float32", logits_shape=[None, 10])
    graph.derivative("logits")
    for op in graph.graph.get_operations():
        assert "Random" not in op.type and "Variable" not in op.type, op.name
    with graph.graph.as_default():
        assert not tf.global_variables()


@pytest.mark.parametrize("num_classes", [3, 100])
@pytest.mark.parametrize("by_tape", [False, True])
def test_a_cotangent_of_unknown_shape(num_classes, by_tape):
    values = np.arange(2.0 * num_classes).reshape(2, num_classes) / num_classes
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(values)
        fed = tf.placeholder(tf.float64)
        if by_tape:
            with tf.GradientTape() as outer:
                outer.watch(logits)
                with tf.GradientTape() as inner:
                    inner.watch(logits)
                    loss = nn.sparse_softmax_cross_entropy_with_logits(labels=[0, 1], logits=logits)
                gradient = inner.gradient(loss, logits)
            product = outer.gradient(gradient, logits, output_gradients=[fed])
        else:
            loss = nn.sparse_softmax_cross_entropy_with_logits(labels=[0, 1], logits=logits)
            gradient = tf.gradients(loss, logits)[0]
            product = tf.gradients(gradient, logits, grad_ys=fed)[0]
        got = session.run(product, {fed: values**2})
    want = reference.Reference(values).derivative_product([values**2]).astype(np.float64)
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("static", [[None, None], [None, 0], [3, 0], None])
@pytest.mark.parametrize("name", [DENSE_V1, DENSE_V2])
def test_rows_without_classes_are_empty_sums(name, static):
    """As stock's: a loss of 0 and a gradient without entries; nothing at all is refused."""
    empty = np.zeros((3, 0), np.float32)
    for module in (tf.nn, nn):
        graph = LossGraph(module, name, "float32", logits_shape=static)
        try:
            losses = graph.run((), empty, empty)
        except tf.errors.InvalidArgumentError as error:
            assert module is tf.nn and "Reshape cannot infer" in str(error)  # TF 1.13's function
            continue
        assert losses.tolist() == [0.0, 0.0, 0.0]
        assert graph.run(("logits",), empty, empty).shape == (3, 0)
        if static != [3, 0]:
            with pytest.raises(tf.errors.InvalidArgumentError):
                graph.run((), empty[:0], empty[:0])


@pytest.mark.parametrize("static", [[None, None], [None, 0], None])
def test_integer_labels_of_no_classes_are_refused(static):
    for module in (tf.nn, nn):
        graph = LossGraph(module, SPARSE, "float32", logits_shape=static)
        words = "at least one class" if module is nn else "at least one class|Reshape cannot infer"
        with pytest.raises(tf.errors.InvalidArgumentError, match=words):
            graph.run((), np.zeros((3, 0)), np.zeros(3))
        with pytest.raises(tf.errors.InvalidArgumentError):
            graph.run((), np.zeros((0, 0)), np.zeros(0))


def test_rows_without_classes_and_with_options():
    empty = np.zeros((3, 0), np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.placeholder(tf.float32, [None, None])
        losses = nn.masked_softmax_cross_entropy_with_logits(
            labels=logits, logits=logits, mask=[True, False, True], label_smoothing=0.1
        )
        assert session.run(losses, {logits: empty}).tolist() == [0.0, 0.0, 0.0]
