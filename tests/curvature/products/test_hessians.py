"""hessians: what tf.hessians returns, and what it refuses."""

import inspect

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.curvature import small_nets as nets
from tests.curvature.dense import error
from tests.oracle import curvature_reference as reference
from tests.support.v1_loops import UNOPTIMIZED
from tf1xent.curvature.products.hessians import hessians


def test_the_signature_begins_with_tensorflows():
    stock, ours = (inspect.signature(f).parameters for f in (tf.hessians, hessians))
    assert list(ours)[: len(stock)] == list(stock)
    assert [ours[name].default for name in stock] == [p.default for p in stock.values()]
    assert ours["cross_blocks"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("case", ["sparse", pytest.param("all", marks=pytest.mark.exhaustive)])
def test_blocks_are_those_of_the_dense_hessian(case):
    values = nets.arrays(nets.MLP)
    jet = reference.mlp(nets.FEATURES, *reference.variables(values))
    with tf.Graph().as_default(), tf.Session(config=UNOPTIMIZED) as session:
        xs = nets.variables(values)
        loss = nets.loss_of(nets.mlp(tf.constant(nets.FEATURES), *xs), case)
        blocks = hessians(loss, xs, cross_blocks=True)
        for x, row in zip(xs, blocks):
            assert [b.shape for b in row] == [x.shape.concatenate(other.shape) for other in xs]
        session.run(tf.global_variables_initializer())
        blocks = session.run(blocks)
    sizes = [value.size for value in values]
    dense = [[b.reshape(n, m) for b, m in zip(row, sizes)] for row, n in zip(blocks, sizes)]
    assert error(np.block(dense), nets.true_loss(jet, case).second) <= 1e-10


def test_what_tensorflow_returns():
    values = nets.arrays(nets.MLP)
    jet = reference.mlp(nets.FEATURES, *reference.variables(values))
    hessian = nets.true_loss(jet, "sparse").second
    with tf.Graph().as_default(), tf.Session() as session:
        xs = nets.variables(values, tf.float32)
        loss = nets.loss_of(nets.mlp(tf.constant(nets.FEATURES, tf.float32), *xs), "sparse")
        ours, stock = hessians(loss, xs), tf.hessians(loss, xs)
        session.run(tf.global_variables_initializer())
        ours, stock = session.run([ours, stock])
    ends = np.cumsum([0] + [value.size for value in values])
    for block, same, begin, end in zip(ours, stock, ends[:-1], ends[1:]):
        assert (block.dtype, block.shape) == (same.dtype, same.shape)
        assert error(block, same) <= 1e-6
        known = hessian[begin:end, begin:end].reshape(block.shape)
        assert np.abs(block - known).max() <= 1e-4 * np.abs(hessian).max()


def test_an_embedding_and_a_partitioned_variable():
    values = nets.arrays(nets.EMBEDDING)
    jet = reference.embedding(nets.TOKENS, *reference.variables(values))
    want = nets.true_loss(jet, "sparse").second[:24, :24]
    with tf.Graph().as_default(), tf.Session() as session:
        table = tf.get_variable(
            "table", [6, 4], tf.float64, partitioner=tf.fixed_size_partitioner(2)
        )
        rest = nets.variables(values[1:])
        loss = nets.loss_of(nets.embedding(tf.constant(nets.TOKENS), table, *rest), "sparse")
        blocks = hessians(loss, table, cross_blocks=True)
        session.run(tf.global_variables_initializer())
        session.run([part.assign(half) for part, half in zip(table, np.split(values[0], 2))])
        blocks = session.run(blocks)
    dense = np.block([[block.reshape(12, 12) for block in row] for row in blocks])
    assert error(dense, want) <= 1e-10


def test_no_dependence_is_zero():
    with tf.Graph().as_default(), tf.Session() as session:
        x, linear, unused = tf.constant([1.0, 2.0]), tf.constant(3.0), tf.constant([[4.0]])
        count = tf.constant([5])
        blocks = hessians(
            tf.reduce_sum(x**3) + linear, [x, linear, unused, count], cross_blocks=True
        )
        values = session.run(blocks)
        diagonal = session.run(hessians(tf.reduce_sum(x**3) + linear, [unused, linear]))
    np.testing.assert_allclose(values[0][0], [[6.0, 0.0], [0.0, 12.0]])
    shapes = [(2,), (), (1, 1), (1,)]
    for i, row in enumerate(values):
        for j, block in enumerate(row):
            assert block.shape == shapes[i] + shapes[j]
            assert (i, j) == (0, 0) or not block.any()
    assert [block.tolist() for block in diagonal] == [[[[[0.0]]]], 0.0]


@pytest.mark.parametrize("known", [True, False])
def test_scalars_empty_tensors_and_ranks(known):
    a, b = np.array(2.0), np.array([[[1.0, -2.0]], [[0.5, 3.0]]])
    empty = np.zeros([0, 3])
    with tf.Graph().as_default(), tf.Session() as session:
        shapes = [x.shape if known else None for x in (a, b, empty)]
        xs = [tf.placeholder(tf.float64, shape) for shape in shapes]
        loss = xs[0] ** 2 * tf.reduce_sum(xs[1] ** 3) + tf.reduce_sum(xs[2] ** 2)
        blocks = session.run(hessians(loss, xs, cross_blocks=True), dict(zip(xs, (a, b, empty))))
    np.testing.assert_allclose(blocks[0][0], 2 * (b**3).sum())
    np.testing.assert_allclose(blocks[0][1], 6 * a * b**2)
    np.testing.assert_allclose(blocks[1][0], 6 * a * b**2)
    expected = np.diag(6 * a**2 * b.ravel()).reshape(b.shape + b.shape)
    np.testing.assert_allclose(blocks[1][1], expected)
    assert blocks[2][2].shape == (0, 3, 0, 3)
    assert blocks[1][2].shape == b.shape + (0, 3)
    assert blocks[2][1].shape == (0, 3) + b.shape


def test_dtypes_are_mixed():
    with tf.Graph().as_default(), tf.Session() as session:
        x, y = tf.constant([1.0 / 3.0], tf.float64), tf.constant([3.0], tf.float32)
        loss = tf.reduce_sum(x**3 * tf.cast(y, tf.float64) ** 2)
        blocks = session.run(hessians(loss, [x, y], cross_blocks=True))
    assert [[block.dtype for block in row] for row in blocks] == [[np.float64, np.float32]] * 2
    np.testing.assert_allclose(blocks[0][0], [[18.0]], rtol=1e-15)
    np.testing.assert_allclose(blocks[1][0], [[2.0]], rtol=1e-6)


def test_a_list_of_losses_a_name_and_the_options_of_gradients():
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.constant([1.0, 2.0])
        ys = [x**3, tf.argmax(x), tf.reduce_sum(x) ** 2]
        before = set(graph.get_operations())
        (block,) = hessians(ys, x, "curvature", True, True, tf.AggregationMethod.ADD_N)
        new = {op.name for op in graph.get_operations() if op not in before}
        assert all(name.startswith("curvature") for name in new)
        np.testing.assert_allclose(session.run(block), [[8.0, 2.0], [2.0, 14.0]])
