"""The loss over a large vocabulary: against the plain composition, and NumPy."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.losses.linear_layer import BIASES, DIM, INPUTS, NUM_CLASSES, RANDOM, WEIGHTS
from tests.oracle import reference
from tests.support.option_cases import unoptimised
from tests.support.tolerances import assert_within_contract
from tf1xent import losses, nn
from tf1xent.losses import Reduction

LABELS = np.array([[0, 6, 3], [-1, 5, 0]])  # -1: to be ignored
CLASS_WEIGHTS = RANDOM.uniform(0.5, 2.0, NUM_CLASSES)
EXAMPLE_WEIGHTS = np.array([[1.0, 0.5, 2.0], [1.0, 0.25, 3.0]])
MASK = np.array([[True, True, False], [True, True, True]])

OPTIONS = {
    "plain": {},
    "smoothing": {"label_smoothing": 0.1},
    "z_loss": {"z_loss": 0.3},
    "all": {"label_smoothing": 0.2, "z_loss": 0.1, "mask": MASK},
}
# chunk size, transposed weights, whether shapes are known, with biases and class weights, options
CASES = [
    (1, False, True, True, "plain"),
    (3, False, True, False, "plain"),
    (3, True, True, True, "smoothing"),
    (NUM_CLASSES, False, True, True, "z_loss"),
    (3, False, True, True, "all"),
    (100, True, True, False, "all"),
    (2, False, False, True, "all"),
    (3, True, False, False, "plain"),
]


def given(value, known=True):
    return tf.placeholder_with_default(value, value.shape if known else [None] * value.ndim)


def plain_composition(labels, inputs, weights, biases, example_weights, class_weights, **options):
    """The same by row, from the whole matrix of logits."""
    flat = tf.reshape(inputs, [-1, DIM])
    logits = tf.matmul(flat, weights) + (0 if biases is None else biases)
    shape = tf.concat([tf.shape(inputs)[:-1], tf.shape(logits)[1:]], axis=0)
    return nn.masked_sparse_softmax_cross_entropy_with_logits(
        labels,
        tf.reshape(logits, shape),
        weights=example_weights,
        class_weights=class_weights,
        ignore_label=-1,
        **options,
    )


def derivatives(per_example, operands):
    """Losses by row, gradients of a mix of them, and a Hessian-vector product, in all operands."""
    mix = tf.constant(np.linspace(1.0, 2.0, 6).reshape(2, 3))
    gradients = tf.gradients(per_example * mix, operands)
    gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
    products = tf.gradients(sum(tf.reduce_sum(tf.sin(g)) for g in gradients), operands)
    return [per_example] + gradients + [tf.convert_to_tensor(product) for product in products]


@pytest.fixture(params=["graph", "kernel"])
def implementation(request):
    """What computes the softmax of a chunk."""
    if request.param == "kernel":
        request.getfixturevalue("library")
    return request.param


@pytest.mark.exhaustive
@pytest.mark.parametrize("chunk_size, transposed, known, full, name", CASES)
def test_against_the_plain_composition(chunk_size, transposed, known, full, name):
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        inputs, weights = given(INPUTS, known), given(WEIGHTS)
        biases = given(BIASES) if full else None
        class_weights = given(CLASS_WEIGHTS) if full else None
        example_weights, labels = given(EXAMPLE_WEIGHTS), given(LABELS, known)
        operands = [inputs, weights, example_weights]
        operands += [biases, class_weights] if full else []
        layout = tf.transpose(weights) if transposed else weights
        if not known:
            shape = [None, DIM] if transposed else [DIM, None]
            layout = tf.placeholder_with_default(layout, shape)
        ours = losses.linear_softmax_cross_entropy(
            labels,
            inputs,
            layout,
            biases,
            chunk_size=chunk_size,
            transpose_weights=transposed,
            example_weights=example_weights,
            class_weights=class_weights,
            ignore_label=-1,
            reduction=Reduction.NONE,
            **OPTIONS[name],
        )
        theirs = plain_composition(
            labels, inputs, weights, biases, example_weights, class_weights, **OPTIONS[name]
        )
        got, want = session.run([derivatives(loss, operands) for loss in (ours, theirs)])
    assert len(got) == 1 + 2 * len(operands)
    for one, other in zip(got, want):
        assert np.any(other)
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11)


def losses_in_numpy(inputs, weights, biases, class_weights, smoothing, z_loss):
    """Losses by row from the definition, one class at a time, in float64."""
    rows = []
    for label, x in zip(LABELS.ravel(), inputs.reshape(-1, DIM)):
        logits = [x.dot(weights[:, j]) + biases[j] for j in range(NUM_CLASSES)]
        partition = np.log(sum(np.exp(logit) for logit in logits))
        terms = 0.0
        for j, logit in enumerate(logits):
            share = (1 - smoothing) * (j == label) + smoothing / NUM_CLASSES
            terms += class_weights[j] * share * (partition - logit)
        rows.append((terms + z_loss * partition**2) * (label >= 0))
    return np.array(rows).reshape(LABELS.shape)


def test_against_numpy(implementation):
    """Values, and gradients by finite differences of NumPy's values, in all that is given."""
    values = [INPUTS, WEIGHTS, BIASES, CLASS_WEIGHTS]
    random = np.random.RandomState(8)
    directions = [random.normal(size=value.shape) for value in values]
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = [given(value) for value in values]
        loss = losses.linear_softmax_cross_entropy(
            LABELS,
            *tensors[:3],
            chunk_size=3,
            class_weights=tensors[3],
            ignore_label=-1,
            label_smoothing=0.1,
            z_loss=0.2,
            reduction=Reduction.NONE,
            implementation=implementation,
        )
        gradients = [tf.convert_to_tensor(g) for g in tf.gradients(loss, tensors)]
        got, gradients = session.run([loss, gradients])

    def numpy_losses(step):
        moved = [value + step * v for value, v in zip(values, directions)]
        return losses_in_numpy(*moved, smoothing=0.1, z_loss=0.2)

    np.testing.assert_allclose(got, numpy_losses(0), rtol=1e-12)
    slope = sum(np.sum(gradient * v) for gradient, v in zip(gradients, directions))
    want = np.sum(numpy_losses(1e-5) - numpy_losses(-1e-5)) / 2e-5
    np.testing.assert_allclose(slope, want, rtol=1e-8)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_confident_rows_keep_relative_accuracy(dtype, implementation):
    """The inputs are the identity: logits are the weights, and so are their derivatives."""
    margins = [0.0, 1.0, 10.0, 17.0, 30.0, 50.0, 80.0]
    logits = np.zeros((2 * len(margins), 10))
    for i, margin in enumerate(margins):
        logits[2 * i, 9] = logits[2 * i + 1, 4] = margin
        logits[2 * i, :9] += np.linspace(0, 0.5, 9)
    logits = logits.astype(dtype)
    labels = np.array([9, 4] * len(margins))
    vector = np.random.RandomState(0).normal(size=logits.shape).astype(dtype)
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        weights = tf.constant(logits)
        loss = losses.linear_softmax_cross_entropy(
            labels,
            np.eye(len(logits), dtype=dtype),
            weights,
            chunk_size=4,
            reduction="none",
            implementation=implementation,
        )
        (gradient,) = tf.gradients(loss, weights)
        (product,) = tf.gradients(tf.reduce_sum(gradient * vector), weights)
        got = session.run([loss, gradient, product])
    oracle = reference.Reference(logits)
    assert 0 < got[0].min() < 1e-30
    assert_within_contract(got[0], oracle.sparse_loss(labels), logits, what="loss")
    assert_within_contract(got[1], oracle.sparse_gradient(labels), logits, what="gradient")
    want, scale = oracle.derivative_product([vector]), oracle.product_scale([vector])
    assert_within_contract(got[2], want, logits, scale, what="Hessian-vector product")


@pytest.mark.exhaustive
def test_classes_at_minus_infinity_drop_out(implementation):
    """Of biases of -inf: the loss and both derivatives of the classes that are left."""
    left = np.array([0, 2, 3, 6])
    biases = np.full(NUM_CLASSES, -np.inf)
    biases[left] = BIASES[left]
    inputs, labels = INPUTS[0], np.array([0, 3, 6])
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        results = []
        for columns in (np.arange(NUM_CLASSES), left):
            weights, known_labels = tf.constant(WEIGHTS[:, columns]), labels
            if len(columns) < NUM_CLASSES:
                known_labels = np.searchsorted(left, labels)
            loss = losses.linear_softmax_cross_entropy(
                known_labels,
                inputs,
                weights,
                biases[columns],
                chunk_size=2,
                implementation=implementation,
            )
            results.append([loss, tf.gradients(loss, weights)[0], tf.hessians(loss, weights)[0]])
        got, want = session.run(results)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-12)
    np.testing.assert_allclose(got[1][:, left], want[1], rtol=1e-11, atol=1e-14)
    hessian = got[2][:, left][:, :, :, left]
    np.testing.assert_allclose(hessian, want[2], rtol=1e-10, atol=1e-14)
    masked = np.setdiff1d(np.arange(NUM_CLASSES), left)
    assert not got[1][:, masked].any() and not got[2][:, masked].any()


@pytest.mark.exhaustive
def test_hessians():
    """tf.hessians in inputs, weights and biases, against those of the plain composition."""
    labels = np.array([2, 6])
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        operands = [given(INPUTS[0, :2]), given(WEIGHTS), given(BIASES)]
        ours = losses.linear_softmax_cross_entropy(labels, *operands, chunk_size=3)
        logits = tf.matmul(operands[0], operands[1]) + operands[2]
        theirs = losses.sparse_softmax_cross_entropy(labels, logits)
        got, want = session.run([tf.hessians(loss, operands) for loss in (ours, theirs)])
    for one, other in zip(got, want):
        assert np.any(other)
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13)


@pytest.mark.exhaustive
def test_rows_that_do_not_count_are_absent():
    """NaN inputs, labels out of range and NaN weights of such rows reach nothing."""
    inputs, example_weights = INPUTS[0].copy(), np.array([1.0, np.nan, 2.0])
    inputs[1] = np.nan
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        results = []
        for rows, labels, mask in (
            (slice(None), [3, 99, 4], [True, False, True]),
            ([0, 2], [3, 4], None),
        ):
            operands = [tf.constant(inputs[rows]), given(WEIGHTS), given(BIASES)]
            loss = losses.linear_softmax_cross_entropy(
                np.array(labels),
                *operands,
                chunk_size=2,
                mask=mask,
                example_weights=tf.constant(example_weights[rows]),
                label_smoothing=0.1,
                z_loss=0.1,
            )
            gradients = tf.gradients(loss, operands)
            products = tf.gradients(sum(tf.reduce_sum(tf.sin(g)) for g in gradients), operands)
            results.append([loss] + gradients[1:] + products[1:] + [gradients[0], products[0]])
        got, want = session.run(results)
    for one, other in zip(got[:-2], want[:-2]):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)
    for one, other in zip(got[-2:], want[-2:]):
        assert not one[1].any()
        np.testing.assert_allclose(one[[0, 2]], other, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", ["SUM", "MEAN", "SUM_BY_CLASS_WEIGHTS", "SUM_BY_VALID_TOKENS"])
def test_reductions_and_collection(name):
    reduction = getattr(Reduction, name)
    options = {"ignore_label": -1, "class_weights": CLASS_WEIGHTS, "reduction": reduction}
    with tf.Graph().as_default(), tf.Session() as session:
        ours = losses.linear_softmax_cross_entropy(
            LABELS, INPUTS, WEIGHTS, example_weights=EXAMPLE_WEIGHTS, chunk_size=3, **options
        )
        theirs = losses.sparse_softmax_cross_entropy(
            LABELS, INPUTS.dot(WEIGHTS), EXAMPLE_WEIGHTS, loss_collection=None, **options
        )
        assert tf.get_collection(tf.GraphKeys.LOSSES) == [ours]
        got, want = session.run([ours, theirs])
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("reduction", [Reduction.NONE, Reduction.MEAN])
def test_an_empty_batch(reduction):
    with tf.Graph().as_default(), tf.Session() as session:
        weights = given(WEIGHTS)
        loss = losses.linear_softmax_cross_entropy(
            np.zeros([0], np.int32), np.zeros([0, DIM]), weights, chunk_size=3, reduction=reduction
        )
        value, gradient = session.run([loss, tf.gradients(loss, weights)[0]])
    assert not np.any(value) and np.shape(value) == (() if reduction == Reduction.MEAN else (0,))
    np.testing.assert_array_equal(gradient, np.zeros_like(WEIGHTS))


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", ["half", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    """The logits are not rounded: the loss is float32's, rounded once, and so are gradients."""
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        rounded = [tf.cast(tf.cast(v, tf.float32), dtype) for v in (INPUTS, WEIGHTS, BIASES)]
        results = []
        for operands in (rounded, [tf.cast(value, tf.float32) for value in rounded]):
            loss = losses.linear_softmax_cross_entropy(
                LABELS, *operands, chunk_size=3, ignore_label=-1, label_smoothing=0.1
            )
            assert loss.dtype == operands[0].dtype
            gradients = tf.gradients(loss, operands)
            assert [g.dtype for g in gradients] == [loss.dtype] * 3
            results.append([tf.cast(value, tf.float32) for value in [loss] + gradients])
        got, want = session.run(results)
    roundoff = 2.0**-10 if dtype == "half" else 2.0**-7
    for one, other in zip(got, want):
        np.testing.assert_allclose(one, other, rtol=4 * roundoff, atol=roundoff)


def test_invalid_labels():
    labels = np.array([0, 7, 3])
    with tf.Graph().as_default(), tf.Session() as session:

        def build(policy):
            return losses.linear_softmax_cross_entropy(
                given(labels),
                INPUTS[0],
                WEIGHTS,
                chunk_size=3,
                invalid_labels=policy,
                reduction=Reduction.NONE,
            )

        for policy in (None, "raise"):
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(build(policy))
        np.testing.assert_array_equal(np.isnan(session.run(build("nan"))), [False, True, False])
        ignored = session.run(build("ignore"))
        assert ignored[1] == 0 and ignored[0] > 0 and ignored[2] > 0


ARRAY = np.zeros
BAD = [
    ({"chunk_size": 0}, ValueError, "`chunk_size` must be an integer of at least 1, got 0"),
    ({"chunk_size": 2.5}, ValueError, "`chunk_size` must be an integer"),
    ({"labels": ARRAY([2])}, TypeError, "`labels` must be int32 or int64"),
    ({"labels": ARRAY([3], np.int32)}, ValueError, "`labels` must have the shape of `inputs`"),
    ({"inputs": ARRAY([2, 3], np.int32)}, TypeError, "`inputs` must be half"),
    ({"inputs": np.float32(1)}, ValueError, "`inputs` must be of known rank"),
    ({"weights": lambda: tf.zeros([3, 7], tf.float32)}, TypeError, "`weights` must have the dtype"),
    ({"weights": ARRAY([7, 3])}, ValueError, "`weights` must be .dim, num_classes. with dim 3"),
    ({"transpose_weights": True}, ValueError, "`weights` must be .num_classes, dim."),
    ({"biases": ARRAY([3])}, ValueError, "`biases` must be .num_classes., 7 numbers"),
    ({"class_weights": [1.0]}, ValueError, "`class_weights` must be"),
    ({"class_weights": [-1.0] * 7}, ValueError, "`class_weights` must be"),
    ({"label_smoothing": 1.0}, ValueError, "`label_smoothing` must be"),
    ({"invalid_labels": "zero"}, ValueError, "`invalid_labels` must be"),
    ({"ignore_label": 0.5}, TypeError, "`ignore_label` must be"),
    ({"reduction": "mean"}, ValueError, "`reduction` must be one of"),
    ({"implementation": "fast"}, ValueError, "`implementation` must be one of"),
    (
        {"weights": [ARRAY([3, 4]), ARRAY([3, 3])], "implementation": "kernel"},
        ValueError,
        '`implementation` must be "graph" or "auto" for weights in shards',
    ),
]


@pytest.mark.parametrize("arguments, error, words", BAD)
def test_bad_input(arguments, error, words):
    good = {"labels": ARRAY([2], np.int32), "inputs": ARRAY([2, 3]), "weights": ARRAY([3, 7])}
    with tf.Graph().as_default(), pytest.raises(error, match=words):
        bad = {name: value() if callable(value) else value for name, value in arguments.items()}
        losses.linear_softmax_cross_entropy(**dict(good, **bad))
