"""Bad input of operators: one clear error each, of the type that TensorFlow itself would raise."""

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.curvature.logistic_regression import SIZE, Model, batches, digits
from tf1xent.curvature.operators.empirical_fisher_operator import EmpiricalFisherOperator
from tf1xent.curvature.operators.fisher_operator import FisherOperator
from tf1xent.curvature.operators.ggn_operator import GGNOperator
from tf1xent.curvature.operators.hessian_operator import HessianOperator

SIZES = [9, 12, 2]
VECTOR = np.linspace(-1, 1, SIZE)


class World:
    """A model, its session and feeds, and what does not belong to them."""

    def __init__(self, graph, session):
        self.graph, self.session, self.model = graph, session, Model()
        self.features, self.labels, self.mask = self.model.inputs
        self.other = tf.get_variable("other", [2], tf.float64, tf.zeros_initializer())
        self.stopped = tf.stop_gradient(self.model.kernel, name="stopped")
        with tf.Graph().as_default():
            self.foreign = Model()
        self.feeds = [self.model.feed(batch) for batch in batches(SIZES)]
        dataset = tf.data.Dataset.from_tensor_slices(digits()).batch(9)
        self.dataset = dataset
        self.one_shot = tf.data.make_one_shot_iterator(dataset)
        self.iterator = tf.data.make_initializable_iterator(dataset)
        session.run(tf.global_variables_initializer())

    def hessian(self, feeds=None, xs=None, loss=None, session=None, **options):
        """Return an operator of the good model but for what is given."""
        return HessianOperator(
            self.session if session is None else session,
            self.model.loss if loss is None else loss,
            self.model.xs if xs is None else xs,
            self.feeds if feeds is None else feeds,
            **options,
        )


@pytest.fixture(scope="module")
def world():
    with tf.Graph().as_default() as graph, tf.Session() as session:
        yield World(graph, session)


def refused(error, match, call):
    """Check that `call` raises one error that names an operator, says what and gives a remedy."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert re.search(match, message), message
    assert re.match(r"(\w+Operator|Parameters)\b", message), message
    # What a session says of a batch is TensorFlow's.
    assert message.endswith(".") or re.match(r"\w+: batch \d+: ", message), message


AT_CONSTRUCTION = {
    "unconnected": (
        ValueError,
        r"connected to \w+ by derivatives, got other, which",
        lambda w: w.hessian(xs=[*w.model.xs, w.other]),
    ),
    "connected without derivatives": (
        ValueError,
        "got stopped, which are not. Leave",
        lambda w: w.hessian(xs=[w.stopped]),
    ),
    "unconnected Fisher": (
        ValueError,
        "got other, which",
        lambda w: FisherOperator(w.session, w.model.logits, w.other, w.feeds),
    ),
    "unconnected empirical Fisher": (
        ValueError,
        "got other, which",
        lambda w: EmpiricalFisherOperator(w.session, w.model.losses, w.other, w.feeds),
    ),
    "a loss of each example": (
        ValueError,
        r"`loss` must be a scalar, got shape .*tf.reduce_mean",
        lambda w: w.hessian(loss=w.model.losses),
    ),
    "a loss of each example, GGN": (
        ValueError,
        "`loss` must be a scalar",
        lambda w: GGNOperator(w.session, w.model.losses, w.model.logits, w.model.xs, w.feeds),
    ),
    "an integer loss": (TypeError, "`loss` must be a float", lambda w: w.hessian(loss=w.labels)),
    "a loss that is a number": (TypeError, "got float", lambda w: w.hessian(loss=1.0)),
    "integer outputs": (
        TypeError,
        "`outputs` must be float tensors, got .*int64",
        lambda w: FisherOperator(w.session, w.labels, w.model.xs, w.feeds),
    ),
    "the loss of another graph": (
        ValueError,
        "must be in the session's graph, got \\w+ of another",
        lambda w: w.hessian(loss=w.foreign.loss),
    ),
    "xs of another graph": (
        ValueError,
        "must be in the session's graph, got dense/kernel of another",
        lambda w: w.hessian(xs=w.foreign.xs),
    ),
    "no session": (TypeError, "`session` must be a tf.Session", lambda w: w.hessian(session=3)),
    "xs twice": (ValueError, "more than once", lambda w: w.hessian(xs=w.model.xs * 2)),
    "a generator": (
        TypeError,
        "read more than once, got the one-shot iterator generator",
        lambda w: w.hessian(feed for feed in w.feeds),
    ),
    "one feed": (TypeError, "an iterable of feed dicts, got dict", lambda w: w.hessian(w.feeds[0])),
    "a number": (TypeError, "an iterable of feed dicts, got int", lambda w: w.hessian(5)),
    "no batch": (ValueError, "must hold a batch, got none", lambda w: w.hessian([])),
    "a one-shot iterator of tf.data": (
        TypeError,
        "initializable iterator where tf.data",
        lambda w: w.hessian(w.one_shot, reduction="sum"),
    ),
    "a dataset": (
        TypeError,
        "initializable iterator where tf.data",
        lambda w: w.hessian(w.dataset, reduction="sum"),
    ),
    "an iterator without weights": (
        ValueError,
        "scalar tensor where a tf.data iterator",
        lambda w: w.hessian(w.iterator),
    ),
    "weights for some batches": (
        ValueError,
        "one entry for each batch, got 2 for 3",
        lambda w: w.hessian(batch_weights=[1, 1]),
    ),
    "weights that are a number": (
        TypeError,
        "`batch_weights` must be None, a sequence",
        lambda w: w.hessian(batch_weights=3),
    ),
    "a tensor of weights": (
        ValueError,
        "must be a scalar of the session's graph",
        lambda w: w.hessian(batch_weights=w.mask),
    ),
    "weights of another graph": (
        ValueError,
        "must be a scalar of the session's graph",
        lambda w: w.hessian(batch_weights=w.foreign.count),
    ),
    "weights for a sum": (
        ValueError,
        "must be None with reduction='sum'",
        lambda w: w.hessian(batch_weights=[1, 1, 1], reduction="sum"),
    ),
    "reduction": (ValueError, "'mean' or 'sum', got 'max'", lambda w: w.hessian(reduction="max")),
    "batch_norm": (
        ValueError,
        "'frozen' or 'batch', got 'no'",
        lambda w: w.hessian(batch_norm="no"),
    ),
    "block_size": (ValueError, "of at least 1, got 0", lambda w: w.hessian(block_size=0)),
    "part of a block": (ValueError, "integer of at least", lambda w: w.hessian(block_size=1.5)),
    "an unknown layer": (ValueError, "got 'conv'", lambda w: w.hessian().submatrix("conv")),
}


@pytest.mark.parametrize("name", sorted(AT_CONSTRUCTION))
def test_at_construction(world, name):
    error, match, call = AT_CONSTRUCTION[name]
    refused(error, match, lambda: call(world))


def changed(world, number, **arrays):
    """The feeds with other arrays in one batch."""
    feeds = [dict(feed) for feed in world.feeds]
    feeds[number].update({getattr(world, name): array for name, array in arrays.items()})
    return feeds


def bad_feature(world, value):
    features = world.feeds[1][world.features].copy()
    features[4, 2] = value
    return changed(world, 1, features=features)


IN_A_PRODUCT = {
    "NaN in a batch": (
        tf.errors.InvalidArgumentError,
        "batch 1 gives NaN or Inf in the part of dense/kernel",
        lambda w: w.hessian(bad_feature(w, np.nan)),
    ),
    "Inf in a batch": (
        tf.errors.InvalidArgumentError,
        "batch 1 gives NaN or Inf",
        lambda w: w.hessian(bad_feature(w, np.inf)),
    ),
    "a feed of the wrong rank": (
        ValueError,
        "batch 2: Cannot feed value of shape",
        lambda w: w.hessian(changed(w, 2, features=np.zeros([2, 5])), batch_weights=[1, 1, 1]),
    ),
    "feeds of different lengths": (
        ValueError,
        "differ in their leading dimension, got features:0: 9, labels:0: 8, mask:0: 9 in batch 0",
        lambda w: w.hessian(changed(w, 0, labels=np.zeros([8], int))),
    ),
    "feeds of different lengths, weighed": (
        tf.errors.InvalidArgumentError,
        "batch 0: ",
        lambda w: w.hessian(changed(w, 0, labels=np.zeros([8], int)), batch_weights=[1, 1, 1]),
    ),
    "a batch that is no dict": (
        TypeError,
        "must hold feed dicts, got ndarray for batch 1",
        lambda w: w.hessian([w.feeds[0], np.zeros(3)]),
    ),
    "a feed of a name that is not there": (
        (TypeError, ValueError),
        "batch 0: ",
        lambda w: w.hessian([{"nothing:0": np.zeros(3)}]),
    ),
    "data that ends with the first pass": (
        ValueError,
        "must hold a batch, got none in this pass",
        lambda w: used_up(w),
    ),
    "more batches than weights": (
        ValueError,
        "one entry for each batch, got 2 for 3 batches",
        lambda w: w.hessian(lambda: w.feeds, batch_weights=[1, 1]),
    ),
    "fewer batches than weights": (
        ValueError,
        "one entry for each batch, got 4 for 3 batches",
        lambda w: w.hessian(lambda: w.feeds, batch_weights=[1, 1, 1, 1]),
    ),
    "a negative weight": (
        ValueError,
        "at least 0, got -1 for batch 2",
        lambda w: w.hessian(batch_weights=[1, 1, -1]),
    ),
    "a weight that is NaN": (
        ValueError,
        "at least 0, got nan for batch 0",
        lambda w: w.hessian(batch_weights=lambda feed: float("nan")),
    ),
    "a weight that is an array": (
        ValueError,
        "must be scalars",
        lambda w: w.hessian(batch_weights=lambda feed: np.ones(2)),
    ),
    "no weight": (
        ValueError,
        "must not all be 0",
        lambda w: w.hessian(batch_weights=[0, 0, 0]),
    ),
    "batches that feed nothing": (
        ValueError,
        "several batches that feed no arrays",
        lambda w: w.hessian([{}, {}], loss=tf.reduce_sum(w.model.kernel**2), xs=w.model.kernel),
    ),
}


def used_up(world):
    feeds = iter(world.feeds)
    operator = world.hessian(lambda: feeds)
    operator @ VECTOR
    return operator


@pytest.mark.parametrize("name", sorted(IN_A_PRODUCT))
def test_in_a_product(world, name):
    error, match, make = IN_A_PRODUCT[name]
    operator = make(world)
    refused(error, match, lambda: operator @ VECTOR[: operator.shape[0]])


def test_nan_in_the_loss_or_gradient_names_the_batch(world):
    operator = world.hessian(bad_feature(world, np.nan))
    refused(tf.errors.InvalidArgumentError, "batch 1 gives NaN.*the loss", operator.loss)
    refused(tf.errors.InvalidArgumentError, "batch 1 gives NaN.*dense", operator.gradient)


def test_bad_vectors(world):
    operator = world.hessian()
    refused(TypeError, "must be real, got dtype complex128", lambda: operator @ (1j * VECTOR))
    refused(ValueError, "must be finite", lambda: operator @ np.full(SIZE, np.nan))
    for vector in (VECTOR[1:], np.ones([SIZE + 1, 2])):
        with pytest.raises(ValueError, match="dimension mismatch|shape"):  # SciPy's own
            operator @ vector


def test_a_closed_session():
    with tf.Graph().as_default(), tf.Session() as session:
        model = Model()
        session.run(tf.global_variables_initializer())
        operator = HessianOperator(session, model.loss, model.xs, [model.feed(digits())])
        operator @ VECTOR
    refused(RuntimeError, "`session` must be open, got a closed one", lambda: operator @ VECTOR)


def test_variables_without_values():
    with tf.Graph().as_default(), tf.Session() as session:
        model = Model()
        operator = HessianOperator(session, model.loss, model.xs, [model.feed(digits())])
        with pytest.raises(tf.errors.FailedPreconditionError, match="HessianOperator: batch 0: "):
            operator @ VECTOR


def test_a_graph_that_was_finalized_before():
    with tf.Graph().as_default() as graph, tf.Session() as session:
        model = Model()
        operator = HessianOperator(session, model.loss, model.xs, [model.feed(digits())])
        graph.finalize()
        for make in (
            lambda: HessianOperator(session, model.loss, model.xs, [model.feed(digits())]),
            lambda: operator.submatrix("dense"),
        ):
            refused(RuntimeError, "must not be finalized.*before tf.Graph.finalize", make)


@pytest.mark.parametrize("resource", [True, False])
def test_a_loss_that_changes_variables(resource):
    with tf.Graph().as_default(), tf.Session() as session:
        model = Model(resource=resource)
        average = tf.get_variable(
            "average", [], tf.float64, tf.zeros_initializer(), use_resource=resource
        )
        update = tf.assign(average, model.loss)
        with tf.control_dependencies([update]):
            loss = tf.identity(model.loss)
        feeds = [model.feed(digits())]
        refused(
            ValueError,
            "must not change variables when computed, but runs Assign",
            lambda: HessianOperator(session, loss, model.xs, feeds),
        )
        HessianOperator(session, model.loss, model.xs, feeds)


def test_a_second_derivative_that_tensorflow_lacks():
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.get_variable("x", [1, 1, 1, 4])
        loss = tf.reduce_sum(tf.nn.local_response_normalization(x))
        with pytest.raises(LookupError, match="LRNGrad.*override_gradients"):
            HessianOperator(session, loss, x, None)


def test_a_v2_branch_that_a_session_has_run_before():
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.get_variable("x", initializer=np.ones(2))
        loss = tf.cond(x[0] > 0, lambda: tf.reduce_sum(tf.sin(x) ** 2), lambda: x[0])
        if loss.op.type == "Merge":
            pytest.skip("a v1 branch can be differentiated at any time")
        session.run(tf.global_variables_initializer())
        session.run(loss)
        operator = HessianOperator(session, loss, x, None)
        remedy = "Make the operator before the session's first run, or in a new session."
        with pytest.raises(tf.errors.InvalidArgumentError, match=remedy):
            operator @ np.ones(2)
