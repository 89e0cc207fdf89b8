"""The plain metrics, against NumPy, scikit-learn and closed forms."""

import collections

import mpmath
import numpy as np
import pytest
import sklearn.metrics
import tensorflow.compat.v1 as tf
from sklearn.calibration import calibration_curve
from sklearn.datasets import load_digits

from tests.metrics.calls import NAMES, NOTHING, NUM_BINS, K, call, run, values
from tests.oracle.metric_reference import all_metrics, probabilities
from tf1xent import metrics

IGNORED = -100

# static: the logits' static shape with the class axis last, None where the rank is unknown;
# weights: None, "scalar", or a shape that broadcasts to the examples'; mask likewise
Case = collections.namedtuple("Case", "shape static axis dtype kind mask ignored weights")
CASES = (
    Case([7, 5], [7, 5], -1, "float32", "sparse", None, False, None),
    Case([7, 5], [None, None], -1, "float64", "sparse", [7], True, [7]),
    Case([7, 5], None, -1, "float32", "sparse", [7], True, [7]),
    Case([7, 5], [None, 5], 0, "float32", "sparse", None, True, "scalar"),
    Case([6], [6], 0, "float32", "sparse", None, False, None),
    Case([2, 6, 4], [None, None, 4], -1, "float32", "sparse", [1, 6], True, [2, 1]),
    Case([2, 6, 4], [2, None, None], 1, "half", "sparse", [2, 6], False, [2, 6]),
    Case([2, 3, 2, 4], [2, 3, 2, 4], 1, "bfloat16", "sparse", [2, 1, 2], True, [1, 3, 1]),
    Case([0, 5], [None, 5], -1, "float32", "sparse", [0], True, [0]),
    Case([7, 5], [7, 5], -1, "float32", "soft", None, False, None),
    Case([7, 5], None, -1, "float64", "soft", None, False, [7]),
    Case([7, 5], [None, None], 0, "float32", "one_hot", None, False, [7]),
    Case([2, 6, 4], [None, None, None], 1, "float32", "soft", [2, 6], False, [2, 6]),
    Case([0, 5], [None, None], -1, "float32", "soft", None, False, None),
)


def made(case, seed=3):
    """(logits, labels, mask, weights), classes last, logits as the case's dtype holds them."""
    random = np.random.RandomState(seed)
    logits = (2.0 * random.normal(size=case.shape)).astype(np.float32)
    if case.dtype == "bfloat16":
        logits = np.round(logits * 16.0) / 16.0  # that much it holds
    logits = logits.astype({"half": np.float16, "bfloat16": np.float32}.get(case.dtype, case.dtype))
    examples, num_classes = case.shape[:-1], case.shape[-1]
    labels = random.randint(num_classes, size=examples)
    if case.kind != "sparse":
        missing = random.uniform(size=examples) < 0.3
        if case.kind == "one_hot":
            labels = np.eye(num_classes, dtype=np.int32)[labels]
        else:
            labels = random.dirichlet(np.ones(num_classes), size=examples).astype(np.float32)
        labels[missing] = 0
    elif case.ignored:
        labels = np.where(random.uniform(size=examples) < 0.3, IGNORED, labels)
    mask = None if case.mask is None else random.uniform(size=case.mask) < 0.6
    weights = case.weights
    if weights is not None:
        weights = 2.5 if weights == "scalar" else random.randint(4, size=weights) / 2.0
    return logits, labels, mask, weights


def expected(case, logits, labels, mask, weights):
    """The metrics by the reference."""
    examples, num_classes = case.shape[:-1], case.shape[-1]
    if mask is not None:
        valid_rows = np.broadcast_to(mask, examples)
    else:
        valid_rows = np.ones(examples, bool) if case.kind == "sparse" else labels.any(axis=-1)
    if case.ignored:
        valid_rows = valid_rows & (labels != IGNORED)
    rows = [num_classes] if case.kind != "sparse" else []
    return all_metrics(
        logits.astype(np.float64).reshape(-1, num_classes),
        labels.reshape([-1] + rows),
        valid_rows.reshape(-1),
        None if weights is None else np.broadcast_to(weights, examples).reshape(-1),
        K,
        NUM_BINS,
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_values_of_every_shape_kind_and_option(case):
    logits, labels, mask, weights = made(case)
    want = expected(case, logits, labels, mask, weights)
    order = list(range(len(case.shape)))
    order.insert(case.axis % len(order), order.pop())  # the class axis where the case has it
    static = None if case.static is None else [case.static[i] for i in order]
    is_sparse = case.kind == "sparse"
    with tf.Graph().as_default(), tf.Session() as session:
        logits_fed = tf.placeholder(case.dtype, static)
        labels_static = static
        if is_sparse and static is not None:
            labels_static = case.static[:-1]
        labels_fed = tf.placeholder(labels.dtype, labels_static)
        options = {"axis": case.axis, "weights": weights}
        options["ignore_label"] = IGNORED if case.ignored else None
        options["mask"] = mask
        built = {name: call(name, labels_fed, logits_fed, **options) for name in NAMES}
        assert all(tensor.shape.as_list() == [] for tensor in built.values())
        got = session.run(
            built,
            {
                logits_fed: logits.transpose(order).astype(logits_fed.dtype.as_numpy_dtype),
                labels_fed: labels if is_sparse else labels.transpose(order),
            },
        )
    precise = "float64" if case.dtype == "float64" else "float32"
    count_dtype = np.int64 if weights is None else np.float64
    assert got["token_count"].dtype == count_dtype and got["token_count"] == want["token_count"]
    for name in set(NAMES) - {"token_count"}:
        assert got[name].dtype == precise
        tolerance = 1e-12 if precise == "float64" and is_sparse else 1e-5
        np.testing.assert_allclose(got[name], want[name], rtol=tolerance, atol=1e-7, err_msg=name)


def test_the_accuracy_with_missing_labels_is_that_of_its_definition():
    random = np.random.RandomState(5)
    y_true = np.eye(4)[random.randint(4, size=[6, 9])] * (random.uniform(size=[6, 9, 1]) < 0.7)
    y_pred = random.normal(size=[6, 9, 4])

    def by_hand():
        truth, prediction = tf.constant(y_true), tf.constant(y_pred)
        mask = 1 - tf.cast(tf.reduce_all(tf.equal(truth, 0), axis=-1), tf.float64)
        equal = tf.equal(tf.argmax(truth, axis=-1), tf.argmax(prediction, axis=-1))
        share = tf.reduce_sum(tf.cast(equal, tf.float64) * mask) / tf.reduce_sum(mask)
        return share, metrics.accuracy(y_true, tf.constant(y_pred))

    want, got = run(by_hand)
    assert 0 < want < 1
    np.testing.assert_allclose(got, want, rtol=1e-15)


@pytest.fixture(scope="module")
def digits():
    """Real images, classified by the distance from the mean image of each class: logits, labels."""
    images, labels = load_digits(return_X_y=True)
    train, test = slice(0, 900), slice(900, None)
    means = np.stack([images[train][labels[train] == digit].mean(axis=0) for digit in range(10)])
    distances = ((images[test, np.newaxis] - means) ** 2).sum(axis=-1)
    return (-distances / 200.0).astype(np.float64), labels[test]


def test_real_digits_against_scikit_learn(digits):
    logits, labels = digits
    weights = np.random.RandomState(1).gamma(2.0, size=len(labels))
    for given in None, weights:
        got = run(
            lambda given=given: [
                metrics.accuracy(labels, logits, weights=given),
                metrics.top_k_accuracy(labels, logits, 3, weights=given),
                metrics.negative_log_likelihood(labels, logits, weights=given),
            ]
        )
        want = [
            sklearn.metrics.accuracy_score(labels, logits.argmax(axis=1), sample_weight=given),
            sklearn.metrics.top_k_accuracy_score(labels, logits, k=3, sample_weight=given),
            sklearn.metrics.log_loss(labels, probabilities(logits), sample_weight=given),
        ]
        assert 0.5 < want[0] < want[1] < 1
        np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("num_bins", [1, 15])
def test_calibration_of_real_digits_against_scikit_learns_bins(digits, num_bins):
    logits, labels = digits
    p = probabilities(logits)
    right = p.argmax(axis=1) == labels
    confidence = p.max(axis=1)
    fraction, mean = calibration_curve(right, confidence, n_bins=num_bins)
    bins = np.clip(np.ceil(confidence * num_bins), 1, num_bins)
    sizes = np.array([(bins == number).sum() for number in np.unique(bins)])
    want = (sizes * np.abs(fraction - mean)).sum() / sizes.sum()
    got = run(lambda: metrics.expected_calibration_error(labels, logits, num_bins=num_bins))
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_upper_edges_belong_to_their_bin():
    # Two classes; p = 1/2 is the upper edge of bin 1 of 2 and of bin 2 of 4, so that it does not
    # meet the p = 0.7, where gaps of opposite sign would cancel.
    logits = np.log([[0.5, 0.5], [0.7, 0.3]])
    got = run(
        lambda: [
            metrics.expected_calibration_error([0, 1], logits, num_bins=bins) for bins in (4, 2, 1)
        ]
    )
    apart, together = (0.5 + 0.7) / 2, (0.7 - 0.5) / 2
    np.testing.assert_allclose(got, [apart, apart, together], rtol=1e-12)


def test_confident_predictions_keep_their_digits():
    logits = np.array([[50.0, 0.0], [80.0, 0.0]], np.float32)
    got = values([0, 0], logits)
    want = np.mean(np.exp([-50.0, -80.0]))
    np.testing.assert_allclose(got["negative_log_likelihood"], want, rtol=1e-5)
    np.testing.assert_allclose(got["expected_calibration_error"], want, rtol=1e-5)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("float64", 1e-14)])
def test_confident_predictions_keep_the_digits_of_their_brier_score(dtype, tolerance):
    logits = np.array([[20.0, 0.0, -1.0, -np.inf], [0.5, -3.0, 40.0, -2.0]], dtype)
    labels = [0, 2]
    with mpmath.workdps(60):
        want = []
        for row, label in zip(logits.astype(float), labels):
            terms = [mpmath.exp(x) for x in row]
            p = [term / sum(terms) for term in terms]
            want.append(sum((p[j] - (j == label)) ** 2 for j in range(4)))
        want = [float(score) for score in want]
    assert want[0] < 1e-16 and want[1] < 1e-33  # 1 - p in float32, or in float64, has no digits
    for given in labels, np.eye(4, dtype=dtype)[labels]:
        for weights, score in zip(np.eye(2), want):
            got = run(lambda g=given, w=weights: metrics.brier_score(g, logits, weights=w))
            np.testing.assert_allclose(got, score, rtol=tolerance)


@pytest.mark.exhaustive
def test_what_is_masked_is_absent():
    random = np.random.RandomState(2)
    logits = random.normal(size=[8, 3]).astype(np.float32)
    labels = random.randint(3, size=8)
    weights = random.uniform(1, 2, size=8).astype(np.float32)
    valid_rows = np.arange(8) % 4 != 1
    want = values(labels[valid_rows], logits[valid_rows], weights=weights[valid_rows])
    logits[~valid_rows] = [[np.nan, np.inf, -np.inf], [np.inf, np.inf, 1.0]]
    labels[~valid_rows] = [10**6, -5]
    weights[~valid_rows] = [np.nan, np.inf]
    assert values(labels, logits, weights=weights, mask=valid_rows) == want
    number_mask = np.where(valid_rows, 0.5, 0.0)
    assert values(labels, logits, weights=weights, mask=number_mask) == want
    labels[~valid_rows] = 255
    assert values(labels, logits, weights=weights, ignore_label=255) == want

    soft = np.eye(3, dtype=np.float32)[np.where(valid_rows, labels, 0)]
    want = values(soft[valid_rows], logits[valid_rows], weights=weights[valid_rows])
    soft[~valid_rows] = np.nan
    assert values(soft, logits, weights=weights, mask=valid_rows) == want
    soft[~valid_rows] = 0.0
    assert values(soft, logits, weights=weights) == want


def test_weight_zero_adds_nothing():
    logits = np.array([[1.0, 2.0], [0.0, 3.0], [0.0, -np.inf]], np.float32)
    got = values([0, 1, 1], logits, weights=[1.0, 0.5, 0.0])
    assert got == values([0, 1], logits[:2], weights=[1.0, 0.5])
    assert np.isfinite(got["negative_log_likelihood"])


def test_the_order_of_classes_and_a_shift_of_the_logits_change_nothing():
    random = np.random.RandomState(9)
    logits, labels = random.normal(size=[30, 6]), random.randint(6, size=30)
    want = values(labels, logits)
    order = random.permutation(6)
    for changed in (
        values(np.argsort(order)[labels], logits[:, order]),
        values(labels, logits + 100.0 * random.normal(size=[30, 1])),
    ):
        for name in NAMES:
            np.testing.assert_allclose(changed[name], want[name], rtol=1e-11, err_msg=name)


@pytest.mark.parametrize(
    "labels, options",
    [
        ([0, 1], {"mask": [False, False]}),
        ([9, 9], {"ignore_label": 9}),
        ([0, 1], {"weights": 0.0}),
        ([0, 1], {"weights": [0.0, 0.0]}),
        ([[0, 0, 0], [0, 0, 0]], {}),
        ([[0.5, 0.5, 0], [0, 0, 1.0]], {"mask": [0, 0]}),
    ],
)
def test_nothing_to_count(labels, options):
    got = values(labels, np.ones([2, 3], np.float32), **options)
    assert got == NOTHING


def test_largest_logits_that_tie():
    logits = [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [2.0, 1.0, 1.0], [2.0, 1.0, 1.0]]
    labels = [0, 1, 1, 2]
    for k in (1, 2, 3, 50):
        got, stock = run(
            lambda k=k: (
                metrics.top_k_accuracy(labels, logits, k),
                tf.reduce_mean(tf.cast(tf.nn.in_top_k(logits, labels, k), tf.float32)),
            )
        )
        assert got == stock == (0.5 if k == 1 else 1.0)
    assert run(lambda: metrics.accuracy(labels, logits)) == 0.25  # the first of equals


def test_rows_that_cannot_be_right():
    # (logits, label, right at k = 2)
    rows = [
        ([np.nan, 1.0, 2.0], 2, False),
        ([np.nan, 1.0, 2.0], 0, False),
        ([0.0, 1.0, np.nan], 1, False),
        ([np.inf, 1.0, 2.0], 0, False),
        ([-np.inf, -np.inf, -np.inf], 0, False),
        ([1.0, -np.inf, -np.inf], 1, False),
        ([3.0, 2.0, 1.0], 3, False),
        ([3.0, 2.0, 1.0], -1, False),
        ([1.0, 2.0, -np.inf], 1, True),  # a class left out is an ordinary loser
        ([1.0, 2.0, np.inf], 1, True),
    ]
    logits = np.array([row for row, _, _ in rows])
    labels = np.array([label for _, label, _ in rows])
    with tf.Graph().as_default(), tf.Session() as session:
        weights = tf.placeholder(tf.float32, [len(rows)])  # of one row after the other
        pair = (
            metrics.top_k_accuracy(labels, logits, 2, weights=weights),
            metrics.accuracy(labels, logits, weights=weights),
        )
        got = [session.run(pair, {weights: one}) for one in np.eye(len(rows))]
    assert [bool(in_top) for in_top, _ in got] == [right for _, _, right in rows]
    first = [False] * 8 + [True, False]
    assert [bool(right) for _, right in got] == first


def test_what_counts_and_is_nan_is_seen():
    got = values([0, 0], np.array([[1.0, 0.0], [np.nan, 0.0]]))
    losses = "negative_log_likelihood", "perplexity", "brier_score"
    for name in losses + ("expected_calibration_error",):
        assert np.isnan(got[name])
    assert got["accuracy"] == got["top_k_accuracy"] == 0.5


def test_counts_beyond_float32():
    labels, weights = [0, 0], np.array([2.0**24, 1.0], np.float32)
    count = run(lambda: metrics.token_count(labels, [[1.0, 0.0]] * 2, weights=weights))
    assert count == 2**24 + 1
    # Rounded once, at the end: float32 sums would give 1 here.
    share = run(
        lambda: metrics.accuracy([0, 1], [[1.0, 0.0]] * 2, weights=np.array([2.0**24, 1.0]))
    )
    assert share == np.float32(2.0**24 / (2**24 + 1)) < 1
