"""Ops of the native library made of stock ops, without the library: values and derivatives."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.oracle import reference
from tests.support import cases, tolerances
from tests.support.kernel_graphs import (
    DENSE,
    INVALID,
    LABELS,
    LOGITS,
    RESULTS,
    SCALE,
    SPARSE,
    VECTORS,
    Lowered,
    in_exact,
    kernel_graph,
    names_of,
    scale_of,
)
from tests.support.tolerances import assert_rounded_once, assert_within_contract

pytestmark = pytest.mark.lengthy


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
    logits, classes = cases.low_precision_rows(low)
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
        if is_loss:
            np.testing.assert_allclose(got, want.astype(np.float64), rtol=1e-5)
        else:
            assert_rounded_once(got, want, dtype)


# --- Invalid labels ---------------------------------------------------------------------------


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


@pytest.mark.exhaustive
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
