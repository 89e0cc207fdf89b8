"""What an operator of a large model holds besides the vectors of the solver."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse.linalg
import tensorflow.compat.v1 as tf

import tf1xent
from tf1xent.curvature.hessian_operator import HessianOperator

SIZES = [784, 1000, 220, 10]
NUM_BATCHES, BATCH_SIZE, NUM_STEPS = 100, 2, 20


def batches(placeholders):
    """Yield random batches, none of which is kept."""
    for number in range(NUM_BATCHES):
        random = np.random.RandomState(number)
        features = random.uniform(size=[BATCH_SIZE, SIZES[0]]).astype(np.float32)
        yield dict(zip(placeholders, (features, random.randint(10, size=[BATCH_SIZE]))))


@pytest.mark.exhaustive
def test_twenty_lanczos_steps_hold_at_most_thirty_vectors():
    with tf.Graph().as_default(), tf.Session() as session:
        features = tf.placeholder(tf.float32, [None, SIZES[0]])
        labels = tf.placeholder(tf.int64, [None])
        hidden, xs = features, []
        for number, shape in enumerate(zip(SIZES[:-1], SIZES[1:])):
            kernel = tf.get_variable(f"kernel_{number}", shape)
            bias = tf.get_variable(f"bias_{number}", shape[1:])
            xs += [kernel, bias]
            hidden = tf.matmul(hidden if number == 0 else tf.tanh(hidden), kernel) + bias
        loss = tf.reduce_mean(
            tf1xent.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=hidden)
        )
        session.run(tf.global_variables_initializer())
        operator = HessianOperator(session, loss, xs, lambda: batches([features, labels]))
        assert operator.shape[0] == 1_007_430
        operator @ np.ones(operator.shape[0])
        tracemalloc.start()
        with pytest.raises(scipy.sparse.linalg.ArpackNoConvergence):
            scipy.sparse.linalg.eigsh(operator, 1, ncv=NUM_STEPS, maxiter=1, tol=0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert operator.num_products >= NUM_STEPS
        assert 20 < peak / (8 * operator.shape[0]) < 30
