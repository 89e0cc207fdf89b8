"""top_k_examples: the largest losses of a batch alone, in every reduced loss and denominator."""

import fractions
import functools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.oracle.option_reference import OptionReference, hardest
from tf1xent import losses
from tf1xent.losses import Reduction

RANDOM = np.random.RandomState(7)
ROWS, CLASSES = 10, 4
LOGITS = 2 * RANDOM.normal(size=(ROWS, CLASSES))
LABELS = RANDOM.randint(CLASSES, size=ROWS)
WEIGHTS = RANDOM.uniform(0.5, 2.0, size=ROWS)
WEIGHTS[3] = 0.0
CLASS_WEIGHTS = np.array([0.5, 1.0, 2.0, 1.5])
MASK = np.arange(ROWS) % 5 != 4
OPTIONS = {"mask": MASK, "class_weights": CLASS_WEIGHTS, "label_smoothing": 0.125, "z_loss": 0.25}
SHARES = [fractions.Fraction(1, 10), fractions.Fraction(3, 8), fractions.Fraction(1)]
TOP = [1, 1000] + SHARES


def sparse(logits, weights, **options):
    return losses.sparse_softmax_cross_entropy(LABELS, logits, weights, **options)


def dense(logits, weights, **options):
    return losses.softmax_cross_entropy(np.eye(CLASSES)[LABELS], logits, weights, **options)


def linear(logits, weights, **options):
    return losses.linear_softmax_cross_entropy(
        LABELS, logits, np.eye(CLASSES), example_weights=weights, chunk_size=3, **options
    )


FUNCTIONS = [sparse, dense, linear]


def given(top_k):
    """As a user writes it: a share is a float."""
    return top_k if isinstance(top_k, int) else float(top_k)


@functools.lru_cache(maxsize=None, typed=True)  # the share 1 is not the number 1
def wanted(top_k, reduction):
    """Loss, gradient and the Hessian times LOGITS, by the oracle."""
    reference = OptionReference(LABELS, LOGITS, weights=WEIGHTS, **OPTIONS)
    by_row = reference.loss()
    chosen = hardest(by_row, MASK, top_k)
    denominator = {
        Reduction.SUM: 1,
        Reduction.MEAN: WEIGHTS[chosen].sum(),
        Reduction.SUM_OVER_BATCH_SIZE: ROWS,
        Reduction.SUM_BY_NONZERO_WEIGHTS: np.sum(WEIGHTS[chosen] != 0),
        Reduction.SUM_BY_VALID_TOKENS: chosen.sum(),
        Reduction.SUM_BY_CLASS_WEIGHTS: (WEIGHTS * CLASS_WEIGHTS[LABELS])[chosen].sum(),
    }[reduction]
    vectors = {name: np.zeros(value.shape) for name, value in reference.arguments.items()}
    vectors["logits"] = LOGITS
    gradient, product = reference.derivatives(vectors, chosen / denominator)
    return by_row[chosen].sum() / denominator, gradient["logits"], product["logits"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("function", FUNCTIONS)
def test_values_and_derivatives(function):
    cases = [(top_k, Reduction.MEAN) for top_k in TOP]
    cases += [(3, reduction) for reduction in Reduction.all()[1:]]
    # All share the choice and the denominators, and the graphs of linear are large.
    cases = {sparse: cases, dense: cases[1::3], linear: cases[2:6:3]}[function]
    with tf.Graph().as_default(), tf.Session() as session:
        logits, tensors = tf.constant(LOGITS), []
        for top_k, reduction in cases:
            loss = function(
                logits, WEIGHTS, top_k_examples=given(top_k), reduction=reduction, **OPTIONS
            )
            (gradient,) = tf.gradients(loss, logits)
            (product,) = tf.gradients(gradient * LOGITS, logits)
            tensors.append([loss, gradient, product])
        results = session.run(tensors)
    for case, found in zip(cases, results):
        for got, want in zip(found, wanted(*case)):
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12, err_msg=str(case))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_losses_by_row_are_zero_where_not_chosen(function):
    by_row = OptionReference(LABELS, LOGITS, weights=WEIGHTS, **OPTIONS).loss()
    with tf.Graph().as_default(), tf.Session() as session:
        loss = function(
            tf.constant(LOGITS), WEIGHTS, top_k_examples=4, reduction=Reduction.NONE, **OPTIONS
        )
        got = session.run(loss)
    np.testing.assert_allclose(got, np.where(hardest(by_row, MASK, 4), by_row, 0), rtol=1e-12)


def test_of_equal_losses_the_first_are_chosen():
    with tf.Graph().as_default(), tf.Session() as session:
        loss = losses.sparse_softmax_cross_entropy(
            [0] * 6, tf.zeros([6, 3]), mask=[0, 1, 1, 1, 1, 1], top_k_examples=3, reduction="none"
        )
        np.testing.assert_array_equal(session.run(loss) > 0, [0, 1, 1, 1, 0, 0])


def test_tokens_of_sequences():
    by_row = OptionReference(LABELS, LOGITS, weights=WEIGHTS).loss()
    chosen = hardest(by_row, np.ones(ROWS, bool), 4)
    with tf.Graph().as_default(), tf.Session() as session:
        loss = losses.sequence_loss(
            tf.constant(LOGITS.reshape(2, 5, CLASSES)),
            LABELS.reshape(2, 5),
            WEIGHTS.reshape(2, 5),
            top_k_examples=4,
        )
        got = session.run(loss)
    assert got == pytest.approx(by_row[chosen].sum() / WEIGHTS[chosen].sum(), rel=1e-12)


def test_known_only_in_the_run_with_unknown_shapes_and_empty_batches():
    with tf.Graph().as_default(), tf.Session() as session:
        labels, logits = tf.placeholder(tf.int64), tf.placeholder(tf.float64)
        mask = tf.placeholder(tf.bool, [None])
        count, share = tf.placeholder(tf.int32), tf.placeholder(tf.float32)
        found = [
            losses.sparse_softmax_cross_entropy(labels, logits, mask=mask, top_k_examples=k)
            for k in (count, share)
        ]
        feed = {labels: LABELS, logits: LOGITS, mask: MASK, count: 2, share: 0.125}  # of 8 rows
        by_row = OptionReference(LABELS, LOGITS, mask=MASK).loss()
        largest = np.sort(by_row)[::-1]
        assert session.run(found, feed) == pytest.approx([largest[:2].mean(), largest[0]])
        feed[mask] = np.zeros(ROWS, bool)
        assert session.run(found, feed) == [0.0, 0.0]
        feed.update({labels: LABELS[:0], logits: LOGITS[:0], mask: MASK[:0]})
        assert session.run(found, feed) == [0.0, 0.0]
        for tensor, loss, bad in ((count, 0, 0), (count, 0, -1), (share, 1, 0.0), (share, 1, 1.5)):
            with pytest.raises(tf.errors.InvalidArgumentError, match="top_k_examples"):
                session.run(found[loss], {**feed, tensor: bad})
        with pytest.raises(tf.errors.InvalidArgumentError, match="top_k_examples"):
            session.run(found[0], {**feed, count: [1]})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tenth_of_ten_rows_is_one(dtype):
    """Although the float of it is a little more, and so is that of seven tenths or 0.07."""
    with tf.Graph().as_default(), tf.Session() as session:
        found = [
            losses.sparse_softmax_cross_entropy(
                np.zeros(rows, np.int32),
                tf.zeros([rows, 2]),
                top_k_examples=given,
                reduction="none",
            )
            for rows, share in (
                (10, 0.1),
                (10, 0.7),
                (100, 0.07),
                (100, 0.29),
                (3, 0.34),
                (9, 1e-9),
            )
            for given in [dtype(share)]
        ]
        assert [np.count_nonzero(loss) for loss in session.run(found)] == [1, 7, 7, 29, 2, 1]


def test_a_loss_that_is_nan_is_among_the_largest():
    logits = LOGITS.copy()
    logits[6] = np.nan
    with tf.Graph().as_default(), tf.Session() as session:
        loss = losses.sparse_softmax_cross_entropy(
            LABELS, tf.constant(logits), top_k_examples=1, reduction="none"
        )
        got = session.run(loss)
    assert np.isnan(got[6]) and not np.delete(got, 6).any()


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "top_k, error",
    [(0, ValueError), (-1, ValueError), (0.0, ValueError), (1.5, ValueError), ([1], ValueError)]
    + [(float("nan"), ValueError), (True, TypeError), ("1", TypeError), ({}, TypeError)],
    ids=repr,
)
def test_bad_input(function, top_k, error):
    with tf.Graph().as_default(), pytest.raises(error, match="`top_k_examples` must be"):
        function(tf.constant(LOGITS), WEIGHTS, top_k_examples=top_k)
