"""What an operator of a large model holds besides the vectors of the solver."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse.linalg
import tensorflow.compat.v1 as tf

import tf1xent
from tf1xent.curvature.operators.hessian_operator import HessianOperator

SIZES = [784, 1000, 220, 10]
NUM_BATCHES, BATCH_SIZE, NUM_STEPS = 30, 2, 20  # one vector kept of each batch would show


def batches(placeholders):
    """Yield random batches, none of which is kept."""
    for number in range(NUM_BATCHES):
        random = np.random.RandomState(number)
        features = random.uniform(size=[BATCH_SIZE, SIZES[0]]).astype(np.float32)
        yield dict(zip(placeholders, (features, random.randint(10, size=[BATCH_SIZE]))))


def resident(key):
    """Return what the process holds now ("VmRSS") or held at most ("VmHWM"), in bytes."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(key))
    return 1024 * int(line.split()[1])


def forget_the_peak():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError as error:
        pytest.skip(f"the peak of the resident memory cannot be measured here: {error}")


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
        size = operator.shape[0]
        assert size == 1_007_430
        vector = np.ones(size)
        operator @ vector
        tracemalloc.start()
        operator @ vector
        of_product = tracemalloc.get_traced_memory()[1] / (8 * size)
        tracemalloc.stop()
        assert 1 < of_product < 4
        forget_the_peak()
        before = resident("VmRSS")
        scipy.sparse.linalg.eigsh(operator, 1, ncv=NUM_STEPS)  # holds 20 vectors and some more
        assert operator.num_products >= 2 + NUM_STEPS
        assert 20 < (resident("VmHWM") - before) / (8 * size) < 30
