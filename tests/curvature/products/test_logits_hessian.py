"""logits_hessian: the blocks of the oracle, for all options and shapes."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.curvature import small_nets as nets
from tests.curvature.dense import error
from tests.oracle import curvature_reference as reference
from tf1xent.curvature.products.logits_hessian import logits_hessian

LOGITS = 2 * np.random.RandomState(2).normal(size=(nets.ROWS, nets.CLASSES))


def true_blocks(case):
    (jet,) = reference.variables([LOGITS])
    shape = (nets.ROWS, nets.CLASSES)
    dense = nets.true_loss(jet, case).second.reshape(shape + shape)
    return np.stack([dense[i, :, i, :] for i in range(nets.ROWS)])


def test_blocks_are_those_of_the_oracle():
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(LOGITS)
        cases = ["ignored, masked and weighted", "all", "soft labels"]
        blocks = [logits_hessian(nets.loss_of(logits, case), logits) for case in cases]
        blocks += [
            logits_hessian(nets.loss_of(logits, "all", tf1xent.losses.Reduction.NONE), logits)
        ]
        assert blocks[0].shape.as_list() == [nets.ROWS, nets.CLASSES, nets.CLASSES]
        *found, of_losses = session.run(blocks)
    for case, got in zip(cases, found):
        assert error(got, true_blocks(case)) <= 1e-10, case
    # The sum of the losses: as the mean, times its denominator.
    number = np.count_nonzero(nets.true_weights("all"))
    assert error(of_losses, number * true_blocks("all")) <= 1e-10


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (0, 4), (3, 1)])
def test_ranks_empty_batches_and_unknown_sizes(shape, known):
    values = np.random.RandomState(4).normal(size=shape)
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.placeholder(tf.float64, shape if known else [None] * len(shape))
        labels = tf.placeholder(tf.int32, [None] * (len(shape) - 1))
        loss = tf1xent.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        blocks = logits_hessian(loss, logits)
        assert blocks.shape.ndims == len(shape) + 1
        feeds = {logits: values, labels: np.zeros(shape[:-1], np.int32)}
        got = session.run(blocks, feeds)
    p = np.exp(values) / np.exp(values).sum(-1, keepdims=True)
    want = p[..., None] * np.eye(shape[-1]) - p[..., None] * p[..., None, :]
    np.testing.assert_allclose(got, want, atol=1e-14)


def test_no_classes_and_unknown_ranks():
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.placeholder(tf.float32, None)
        blocks = logits_hessian(tf.reduce_sum(logits**3), logits)
        assert session.run(blocks, {logits: np.ones([2, 0])}).shape == (2, 0, 0)
        got = session.run(blocks, {logits: np.ones([2, 1, 2])})
    np.testing.assert_allclose(got, np.broadcast_to(6 * np.eye(2), [2, 1, 2, 2]))
