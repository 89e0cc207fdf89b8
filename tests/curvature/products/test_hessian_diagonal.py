"""hessian_diagonal: exact, and Hutchinson's estimate with its own variance."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.curvature import small_nets as nets
from tests.curvature.dense import error
from tests.oracle import curvature_reference as reference
from tf1xent.curvature.products.hessian_diagonal import hessian_diagonal


@pytest.mark.parametrize(
    "case, dtype",
    [
        ("sparse", "float64"),
        pytest.param("z-loss and temperature", "float32", marks=pytest.mark.exhaustive),
    ],
)
def test_the_exact_diagonal_and_the_estimate(case, dtype):
    values = nets.arrays(nets.MLP)
    jet = reference.mlp(nets.FEATURES, *reference.variables(values))
    hessian = nets.true_loss(jet, case).second
    num_samples = 400
    with tf.Graph().as_default(), tf.Session() as session:
        xs = nets.variables(values, tf.as_dtype(dtype))
        loss = nets.loss_of(nets.mlp(tf.constant(nets.FEATURES, dtype), *xs), case)
        exact = hessian_diagonal(loss, xs)
        estimate = hessian_diagonal(loss, xs, num_samples=num_samples, seed=1)
        for tensors in (exact, estimate):
            assert [tensor.shape for tensor in tensors] == [x.shape for x in xs]
        session.run(tf.global_variables_initializer())
        exact, estimate = map(nets.flat, session.run([exact, estimate]))
    assert exact.dtype == estimate.dtype == dtype
    assert error(exact, np.diag(hessian)) <= (1e-10 if dtype == "float64" else 1e-4)
    # The variance of one sample of entry i is the sum of H_ij^2 over j != i.
    deviation = np.sqrt(((hessian - np.diag(np.diag(hessian))) ** 2).sum(1) / num_samples)
    scores = (estimate - np.diag(hessian)) / deviation
    assert np.abs(scores).max() < 5
    assert 0.4 < np.sqrt((scores**2).mean()) < 2.0


def test_a_seed_gives_the_same_numbers_in_a_new_session_and_new_ones_in_each_run():
    matrix = np.random.RandomState(0).normal(size=(5, 5))
    runs = []
    for seed in (7, 7, 8):
        with tf.Graph().as_default(), tf.Session() as session:
            x, y = tf.constant(np.zeros(3)), tf.constant(np.zeros(2))
            both = tf.concat([x, y], axis=0)
            loss = tf.reduce_sum(both * tf.linalg.matvec(tf.constant(matrix), both))
            estimate = hessian_diagonal(loss, [x, y], num_samples=3, seed=seed)
            runs.append([nets.flat(session.run(estimate)) for _ in range(2)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0][0] != runs[0][1]).any()
    assert (runs[0][0] != runs[2][0]).any()


@pytest.mark.parametrize("num_samples", [None, 2])
def test_scalars_empty_tensors_unknown_shapes_and_no_dependence(num_samples):
    with tf.Graph().as_default(), tf.Session() as session:
        scalar = tf.placeholder_with_default(np.array(2.0), None)
        empty = tf.placeholder_with_default(np.zeros([0, 2]), None)
        unused, count = tf.constant([1.0]), tf.constant([3])
        xs = [scalar, empty, unused, count]
        loss = scalar**3 + tf.reduce_sum(empty**2)
        values = session.run(hessian_diagonal(loss, xs, num_samples=num_samples))
    assert [value.shape for value in values] == [(), (0, 2), (1,), (1,)]
    assert values[0] == pytest.approx(12.0)
    assert values[2].tolist() == [0.0]
    assert values[3].tolist() == [0] and values[3].dtype == np.int32
