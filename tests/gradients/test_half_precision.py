"""The override for logits of half and bfloat16: computed in float32, rounded once at the end."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.gradients.overriding import LABELS, LOGITS, SOFT_LABELS, U, V, labels_of, run, weights_of
from tests.oracle import reference
from tests.support.loss_graph import DENSE_V1, NAMES, SPARSE, LossGraph

# Half of the distance from 1 to the next number.
ROUNDOFF = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
DTYPES = [*ROUNDOFF]
# Besides ordinary rows and a tie: confident and right, confident and wrong, one class masked. For
# that one the loss of the dense op itself is NaN, and of the sparse op of 1.15 in bfloat16.
ENDS = np.array([[12.0, -3.0, 0.0, 1.0], [-11.0, 9.0, 0.5, 2.0], [-np.inf, 1.0, 0.25, -2.0]])
ROWS = np.concatenate([LOGITS, ENDS])
ROW_LABELS = np.concatenate([LABELS, [0, 0, 1]])
ROW_DISTRIBUTIONS = np.concatenate(
    [SOFT_LABELS, [[1.0, 0, 0, 0], [0.75, 0.25, 0, 0], [0, 0.5, 0.25, 0.25]]]
)


def rounded(array, dtype):
    """`array` as the dtype holds it, in float64."""
    with tf.Graph().as_default():
        return run(tf.cast(tf.cast(tf.constant(array), dtype), tf.float64))


def has_op(name, dtype):
    """Whether this TensorFlow's own op takes logits of the dtype, on a CPU."""
    try:
        with tf.Graph().as_default():
            logits = tf.zeros([1, 2], dtype)
            labels = [0] if name == SPARSE else tf.ones([1, 2], dtype)
            run(getattr(tf.nn, name)(labels=labels, logits=logits))
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, TypeError):
        return False
    return True


def masks_a_class(dtype):
    """Whether the loss of the sparse op itself is a number where another class is masked."""
    with tf.Graph().as_default():
        logits = tf.constant(ROWS[-1:], dtype)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=ROW_LABELS[-1:], logits=logits)
        return bool(run(tf.is_finite(tf.cast(loss, tf.float32)))[0])


@pytest.fixture(scope="module", params=DTYPES)
def dtype(request):
    return request.param


@pytest.mark.parametrize("name", NAMES)
def test_half_precision(name):
    graph = LossGraph(tf.nn, name, "float16", logits_shape=[None, 4])
    tf1xent.override_gradients()
    got = graph.run(("logits", "logits"), LOGITS, labels_of(name), V)
    want = reference.Reference(LOGITS).derivative_product([V], weights_of(name))
    np.testing.assert_allclose(got, want.astype(np.float64), rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize("name", NAMES)
def test_values_and_derivatives_are_right_within_the_dtype(name, dtype):
    """Errors relative to the largest entry of the row, which is how the dtype rounds a row."""
    if not has_op(name, dtype):
        pytest.skip(f"this TensorFlow's op takes no {dtype}")
    rows = slice(None) if name == SPARSE and masks_a_class(dtype) else slice(-1)
    with tf.Graph().as_default():
        logits = tf.constant(ROWS[rows], dtype)
        labels = ROW_LABELS[rows] if name == SPARSE else tf.constant(ROW_DISTRIBUTIONS[rows], dtype)
        loss = getattr(tf.nn, name)(labels=labels, logits=logits)
        tf1xent.override_gradients()
        (first,) = tf.gradients(loss, logits)
        vectors = [tf.constant(_padded(vector), dtype) for vector in (U, V)]
        vectors = [vector[: logits.shape.as_list()[0]] for vector in vectors]
        (second,) = tf.gradients(first, logits, grad_ys=vectors[0])
        (third,) = tf.gradients(second, logits, grad_ys=vectors[1])
        assert {tensor.dtype for tensor in (loss, first, second, third)} == {tf.as_dtype(dtype)}
        got = run([tf.cast(tensor, tf.float64) for tensor in (loss, first, second, third)])
    oracle = reference.Reference(rounded(ROWS[rows], dtype))
    distributions = rounded(ROW_DISTRIBUTIONS[rows], dtype)
    weights = None if name == SPARSE else distributions
    u, v = (rounded(_padded(vector), dtype)[rows] for vector in (U, V))
    if name == SPARSE:
        want = [oracle.sparse_loss(labels), oracle.sparse_gradient(labels)]
    else:  # TensorFlow's first order, for labels that do not sum to 1 too
        want = [oracle.dense_loss(distributions), oracle.probabilities() - distributions]
    want += [oracle.derivative_product([u], weights), oracle.derivative_product([u, v], weights)]
    for order, (found, wanted) in enumerate(zip(got, want)):
        # The op's own gradient loses what is below the roundoff of 1.
        smallest = 2.0**-24 if order > 1 else ROUNDOFF[dtype]
        _check(found, wanted.astype(np.float64), dtype, smallest, f"order {order}")


def _padded(vectors):
    return np.concatenate([vectors, vectors[:3]])


def _check(got, want, dtype, smallest, what):
    size = np.abs(want) if want.ndim == 1 else np.abs(want).max(axis=1, keepdims=True)
    # Inputs are exact; a result is rounded once, and the gradient of the fused op before that.
    allowed = 4 * ROUNDOFF[dtype] * size + smallest
    worst = np.max(np.abs(got - want) / allowed)
    assert worst <= 1, f"{what}: {worst} times what is allowed"


def test_stock_labels_get_no_gradient(dtype):
    """The variant whose labels are stopped stays so under the override."""
    if not has_op(DENSE_V1, dtype):
        pytest.skip(f"this TensorFlow's op takes no {dtype}")
    with tf.Graph().as_default():
        logits, labels = tf.constant(LOGITS, dtype), tf.constant(SOFT_LABELS, dtype)
        tf1xent.override_gradients()
        loss = getattr(tf.nn, DENSE_V1)(labels=labels, logits=logits)
        assert tf.gradients(loss, labels) == [None]
