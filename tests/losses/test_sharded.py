"""The loss of classes in shards, with every option, to second order and more, against mpmath."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.losses.shards import by_row, cut, logits_loss, owned
from tests.oracle import reference
from tests.support.option_cases import NUM_CLASSES, Case, CaseGraph, Faults, unoptimised
from tests.support.tolerances import assert_within_contract

# Options, the sizes of the shards, the strategy, the chunk size, whether a linear layer.
FEW = [
    (("label_smoothing", "class_weights", "z_loss"), (2, 2), "mod", 1, False),
    (("mask",), (2, 1, 1), "div", 2, True),
]
SINGLE = (
    "mask",
    "weights",
    "class_weights",
    "class_mask",
    "label_smoothing",
    "z_loss",
    "temperature",
    "focal_gamma",
    "softcap",
    "logit_adjustment",
    "ignore_label",
    "invalid_labels",
)
# What other libraries get wrong when classes are in shards: the loss itself with labels that are
# left out, smoothing, weights of classes, and what reads the partition.
HARD = ("label_smoothing", "class_weights", "ignore_label", "z_loss")
LAYOUTS = [
    ((2, 2), "div", None, False),
    ((1, 3), "div", 2, False),
    ((2, 2), "mod", None, True),
    ((2, 1, 1), "mod", None, False),
    ((1, 1, 1, 1), "div", None, False),
    ((4,), "div", 3, True),
]
COMBINED = [
    HARD,
    ("label_smoothing", "class_weights", "class_mask"),
    ("label_smoothing", "focal_gamma", "class_weights"),
]
# Options that do not read each other's numbers go three together.
TRIPLES = [SINGLE[first::4] for first in range(4)]
MANY = [(names, *LAYOUTS[number % len(LAYOUTS)]) for number, names in enumerate(TRIPLES + COMBINED)]


def compared(rows):
    """Compares cases with the oracle: the loss, and both derivatives in everything."""
    cases = []
    for names, sizes, strategy, chunk_size, identity in rows:
        case = Case("sparse", names)
        assert sum(sizes) == NUM_CLASSES
        case.function = by_row(sizes, strategy, chunk_size, identity)
        cases.append(case)
    faults = Faults(rtol=1e-12, atol=1e-12)
    for case, row, (loss, gradient, product) in zip(cases, rows, CaseGraph(cases, 2).run()):
        name, oracle = f"{case.name} {row[1:]}", case.reference()
        faults.compare(name + " loss", loss, oracle.loss())
        wanted = oracle.derivatives(case.vectors, case.cotangents)
        for what, found, want in zip(("gradient", "product"), (gradient, product), wanted):
            for key in case.vectors:
                faults.compare(f"{name} {what} in {key}", found[key], want[key])
    faults.none()


def test_options_meet_shards():
    compared(FEW)


@pytest.mark.exhaustive
def test_every_option():
    compared(MANY)


LOGITS = np.random.RandomState(3).normal(size=(8, 7)) * 2
LABELS = np.array([0, 1, 2, 3, 4, 5, 6, 2])  # on every shard
ONE_SHARD = np.array([6] * 8)  # and none on most of them


def derivatives(loss, logits, order, random):
    """The loss, and its derivatives along vectors up to `order`, the last one in the logits."""
    found, vectors = [loss], []
    along = tf.reduce_sum(loss)
    for _ in range(order):
        (gradient,) = tf.gradients(along, logits)
        found.append(gradient)
        vectors.append(random.normal(size=LOGITS.shape))
        along = tf.reduce_sum(gradient * vectors[-1])
    return found, vectors


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "sizes, strategy, order",
    [
        pytest.param((7,), "div", 2, marks=pytest.mark.exhaustive),
        pytest.param((1, 6), "div", 3, marks=pytest.mark.exhaustive),
        ((3, 2, 2), "mod", 2),
        pytest.param((1,) * 7, "div", 1, marks=pytest.mark.exhaustive),
    ],
)
def test_shards_of_every_number(sizes, strategy, order):
    """One, two, three and seven shards, with labels on all of them and on one; to third order."""
    for labels in (LABELS, ONE_SHARD):
        random = np.random.RandomState(1)
        with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
            logits = tf.placeholder_with_default(LOGITS, LOGITS.shape)
            loss = logits_loss(labels, cut(logits, sizes, strategy), partition_strategy=strategy)
            tensors, vectors = derivatives(loss, logits, order, random)
            loss, gradient, *products = session.run(tensors)
        oracle = reference.Reference(LOGITS)
        close = dict(rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(loss, oracle.sparse_loss(labels).astype(float), **close)
        want = oracle.sparse_gradient(labels).astype(float)
        np.testing.assert_allclose(gradient, want, **close)
        for number, product in enumerate(products):
            want = oracle.derivative_product(vectors[: number + 1]).astype(float)
            np.testing.assert_allclose(product, want, **close)


@pytest.mark.lengthy
def test_contract_in_float32_whatever_is_added_to_the_logits():
    """Confident rows; and the same with a million on all logits, which only differences survive."""
    margins = np.array([0.0, 1.0, 10.0, 17.0, 30.0, 50.0, 80.0])
    base = np.zeros((2 * len(margins), 7), np.float32)
    base[0::2, 6] = base[1::2, 2] = margins
    base[0::2, :6] += np.linspace(0, 0.5, 6, dtype=np.float32)
    labels = np.array([6, 2] * len(margins))
    vector = np.random.RandomState(0).normal(size=base.shape).astype(np.float32)
    for offset in (0.0, 2.0**20):
        shifted = base + np.float32(offset)
        with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
            logits = tf.placeholder_with_default(shifted, shifted.shape)
            loss = logits_loss(labels, cut(logits, (3, 4)), chunk_size=2)
            (gradient,) = tf.gradients(loss, logits)
            (product,) = tf.gradients(tf.reduce_sum(gradient * vector), logits)
            got = session.run([loss, gradient, product])
        oracle = reference.Reference(shifted)
        assert 0 < got[0].min() < 1e-30
        assert_within_contract(got[0], oracle.sparse_loss(labels), shifted, what="loss")
        assert_within_contract(got[1], oracle.sparse_gradient(labels), shifted, what="gradient")
        want, scale = oracle.derivative_product([vector]), oracle.product_scale([vector])
        assert_within_contract(got[2], want, shifted, scale, what="Hessian-vector product")


@pytest.mark.lengthy
@pytest.mark.both_ends
def test_shards_that_take_no_part():
    """A shard of -inf, one that a class mask leaves out, and one of the label alone."""
    left = np.array([3, 4, 5, 6])
    labels = np.array([3, 4, 5, 6, 3, 4, 5, 6])
    cases = {
        "-inf": (np.where(np.isin(np.arange(7), left), LOGITS, -np.inf), {}),
        "mask": (LOGITS, {"class_mask": np.isin(np.arange(7), left), "label_smoothing": 0.25}),
    }
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        results = []
        for values, options in cases.values():
            logits = tf.placeholder_with_default(values, values.shape)
            loss = logits_loss(labels, cut(logits, (3, 1, 3)), **options)
            (gradient,) = tf.gradients(loss, logits)
            results.append([loss, gradient, tf.gradients(tf.sin(gradient), logits)[0]])
        got = dict(zip(cases, session.run(results)))
    oracle = reference.Reference(LOGITS[:, left])
    want = oracle.sparse_loss(labels - 3).astype(float)
    np.testing.assert_allclose(got["-inf"][0], want, rtol=1e-12)
    smooth = np.mean([oracle.sparse_loss(np.full(8, j)).astype(float) for j in range(4)], axis=0)
    np.testing.assert_allclose(got["mask"][0], 0.75 * want + 0.25 * smooth, rtol=1e-12)
    for _, gradient, product in got.values():
        assert np.isfinite(gradient).all() and np.isfinite(product).all()
        assert not gradient[:, :3].any() and not product[:, :3].any()
        assert gradient[:, 3:].all()
    want = oracle.sparse_gradient(labels - 3).astype(float)
    np.testing.assert_allclose(got["-inf"][1][:, 3:], want, rtol=1e-12, atol=1e-15)


def test_half_precision_is_computed_in_float32():
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        half = tf.cast(LOGITS, tf.float16)
        results = []
        for logits in (half, tf.cast(half, tf.float32)):
            loss = logits_loss(LABELS, cut(logits, (3, 4)), label_smoothing=0.1)
            (gradient,) = tf.gradients(loss, logits)
            assert loss.dtype == gradient.dtype == logits.dtype
            results.append([loss, gradient])
        got, want = session.run(results)
    for one, other in zip(got, want):
        np.testing.assert_array_equal(one, other.astype(np.float16))


def test_owners():
    """The test's own cutting, written out."""
    assert [list(classes) for classes in owned((3, 2, 2), "mod")] == [[0, 3, 6], [1, 4], [2, 5]]
    assert [list(classes) for classes in owned((1, 3))] == [[0], [1, 2, 3]]
