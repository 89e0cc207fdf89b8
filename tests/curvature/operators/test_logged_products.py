"""Operators with a product log: replayed to the bit, and never for another operator."""

import signal

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.curvature import killed_program
from tests.support.processes import run_forked
from tf1xent.curvature.operators.ggn_operator import GGNOperator
from tf1xent.curvature.operators.hessian_operator import HessianOperator

SIZE = 8
VECTORS = np.random.RandomState(4).normal(size=[3, SIZE])
DATA = np.random.RandomState(5).normal(size=[7, 3])


def test_a_killed_process_goes_on_to_the_same_bits(tmp_path):
    whole, number = killed_program.run(tmp_path / "whole")
    assert number >= killed_program.NUM_STEPS
    # The first pass is that of the checksums, so the process dies in its tenth product.
    killed = run_forked("-m", killed_program.__name__, tmp_path / "log", 11)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    resumed, computed = killed_program.run(tmp_path / "log")
    assert computed == number - 9
    for array, expected in zip(resumed, whole):
        assert array.tobytes() == expected.tobytes()
    assert (tmp_path / "log").read_bytes() == (tmp_path / "whole").read_bytes()


class Running:
    """A small model in a session, operators of it, and a log that one of them has written."""

    def __init__(self, session, folder):
        self.session, self.path = session, folder / "log"
        self.data = tf.placeholder(tf.float64, [None, 3], "data")
        self.mask = tf.placeholder(tf.float64, [None], "mask")
        random = np.random.RandomState(6)
        with tf.variable_scope("dense"):
            self.kernel = tf.get_variable("kernel", initializer=random.normal(size=[3, 2]))
            self.bias = tf.get_variable("bias", initializer=random.normal(size=[2]))
        self.scale = tf.get_variable("scale", [], tf.float64, tf.ones_initializer())
        self.outputs = tf.tanh(tf.matmul(self.data, self.kernel) + self.bias)
        each = self.mask * tf.reduce_sum(self.outputs**2, 1)
        self.count = tf.reduce_sum(self.mask)
        self.loss = tf.divide(self.scale * tf.reduce_sum(each), self.count, name="loss")
        self.other = tf.divide(tf.reduce_sum(each), self.count, name="other")
        self.feeds = [{self.data: x, self.mask: np.ones(len(x))} for x in np.split(DATA, [4])]
        session.run(tf.global_variables_initializer())
        self.first = self.operator()
        self.products = [self.first @ vector for vector in VECTORS]
        self.written = self.path.read_bytes()

    def operator(self, make=HessianOperator, loss=None, xs=None, feeds=None, **options):
        functions = [self.loss if loss is None else loss]
        if make is GGNOperator:
            functions.append(self.outputs)
        xs = [self.kernel, self.bias] if xs is None else xs
        feeds = self.feeds if feeds is None else feeds
        options = {"log": self.path, "batch_weights": self.count, **options}
        return make(self.session, *functions, xs, feeds, **options)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with tf.Graph().as_default(), tf.Session() as session:
        yield Running(session, tmp_path_factory.mktemp("logs"))


def test_a_log_changes_no_bit(running):
    unlogged = running.operator(log=None)
    for vector, product in zip(VECTORS, running.products):
        assert product.tobytes() == (unlogged @ vector).tobytes()


def test_products_are_replayed_with_other_damping_and_blocks(running):
    operator = running.operator(damping=0.5, block_size=2)
    fourth = np.arange(float(SIZE))
    matrix = operator @ np.concatenate([VECTORS, [fourth]]).T
    assert operator.num_products == 1
    np.testing.assert_array_equal(matrix[:, :3].T, np.array(running.products) + 0.5 * VECTORS)
    again = running.operator()
    np.testing.assert_array_equal(
        again @ np.arange(float(SIZE)) + 0.5 * np.arange(SIZE), matrix[:, 3]
    )
    assert again.num_products == 0


def other_number(running):
    feeds = [dict(feed) for feed in running.feeds]
    feeds[1][running.data] = feeds[1][running.data] + 1e-9 * (np.arange(9) == 4).reshape(3, 3)
    return feeds


WEIGHTS = "in: the reduction or the batch weights. It"
OTHERS = {
    "loss": (lambda r: {"loss": r.other}, "names of the loss.*; the ops"),
    "kind": (lambda r: {"make": GGNOperator}, "the kind of the operator; the ops"),
    "variables": (lambda r: {"xs": r.bias}, "names and shapes of the variables"),
    "order of variables": (lambda r: {"xs": [r.bias, r.kernel]}, "names and shapes of the var"),
    "data": (lambda r: {"feeds": other_number(r)}, "in: the data. It"),
    "less data": (lambda r: {"feeds": r.feeds[:1]}, "the data. It"),
    "order of data": (lambda r: {"feeds": r.feeds[::-1]}, "in: the data. It"),
    "weights": (lambda r: {"batch_weights": None}, WEIGHTS),
    "reduction": (lambda r: {"batch_weights": None, "reduction": "sum"}, WEIGHTS),
}


def refused(running, match, operator):
    before = running.path.read_bytes()
    with pytest.raises(ValueError, match=match) as caught:
        operator @ VECTORS[0][: operator.shape[0]]
    assert operator.num_products == 0
    assert "It is left as it was." in str(caught.value)
    assert running.path.read_bytes() == before


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_a_log_of_something_else_is_refused(running, name):
    options, match = OTHERS[name]
    refused(running, match, running.operator(**options(running)))


@pytest.mark.parametrize("name", ["kernel", "scale"])  # also one that is not among xs
def test_a_log_of_other_values_is_refused(running, name):
    changed = getattr(running, name)
    value = running.session.run(changed)
    changed.load(value + 1e-3, running.session)
    try:
        refused(running, "in: the values of the variables. It", running.operator())
        with pytest.raises(ValueError, match="must not change while `log` is used"):
            running.first @ VECTORS[1]
    finally:
        changed.load(value, running.session)
    assert (running.first @ VECTORS[1]).tobytes() == running.products[1].tobytes()


def test_the_data_of_an_iterator_are_known_by_the_gradient(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        factor = tf.get_variable("factor", [], tf.float64, tf.ones_initializer())
        dataset = tf.data.Dataset.from_tensor_slices(DATA * factor).batch(4)
        iterator = tf.data.make_initializable_iterator(dataset)
        x = tf.get_variable("x", initializer=np.ones(3))
        products = tf.linalg.matvec(iterator.get_next(), x)
        loss = tf.reduce_mean(products**4)
        options = {"batch_weights": tf.size(products), "log": tmp_path / "log"}
        session.run(tf.global_variables_initializer())
        results = []
        for _ in range(2):
            operator = HessianOperator(session, loss, x, iterator, **options)
            results.append(operator @ np.arange(3.0))
        assert operator.num_products == 0
        assert results[0].tobytes() == results[1].tobytes()
        factor.load(0.5, session)
        operator = HessianOperator(session, loss, x, iterator, **options)
        with pytest.raises(ValueError, match="in: the data. It"):
            operator @ np.arange(3.0)


def test_a_submatrix_has_a_log_of_its_own(running, tmp_path):
    for number in (2, 0):
        part = running.first.submatrix("dense/bias", log=tmp_path / "part")
        part.to_dense()
        assert part.num_products == number
    unlogged = running.first.submatrix("dense/bias")
    unlogged.to_dense()
    assert unlogged.num_products == 2
