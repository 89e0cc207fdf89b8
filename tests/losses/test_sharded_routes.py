"""The losses by shards in branches and loops, by tapes, functions and XLA, and in saved graphs."""

import inspect

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.losses.shards import cut
from tests.support.option_cases import unoptimised
from tests.support.processes import output_of
from tests.support.v1_loops import v1_control_flow
from tf1xent import losses

LABELS = np.array([0, 6, 3])
LOGITS = np.random.RandomState(2).normal(size=(3, 7))
VECTOR = np.random.RandomState(3).normal(size=(3, 7))
OPTIONS = {"label_smoothing": 0.1, "class_weights": np.linspace(0.5, 2.0, 7)}


def loss_of(logits, **options):
    shards = cut(logits, (3, 4))
    return losses.sharded_softmax_cross_entropy(
        LABELS, shards, loss_collection=None, **dict(OPTIONS, **options)
    )


def derivatives(loss, logits):
    """The loss, its gradient and a Hessian-vector product."""
    (gradient,) = tf.gradients(loss, logits)
    return [loss, gradient] + tf.gradients(tf.reduce_sum(gradient * VECTOR), logits)


def close(found, wanted):
    for one, other in zip(found, wanted):
        assert np.any(other)
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13)


@pytest.mark.lengthy
def test_branches_and_loops():
    """In a v1 branch to second order, and in a v1 loop, which has no second order, to first."""
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        logits = tf.placeholder_with_default(LOGITS, LOGITS.shape)
        want = derivatives(loss_of(logits), logits)
        with v1_control_flow():
            turn = tf.placeholder_with_default(True, [])
            branch = tf.cond(turn, lambda: loss_of(logits), lambda: tf.constant(0.0, tf.float64))
            in_branch = derivatives(branch, logits)
            _, summed = tf.while_loop(
                lambda turn, _: turn < 2,
                lambda turn, total: (turn + 1, total + loss_of(logits, chunk_size=2)),
                (0, tf.constant(0.0, tf.float64)),
            )
            in_loop = [summed / 2, tf.gradients(summed, logits)[0] / 2]
        want, in_branch, in_loop = session.run([want, in_branch, in_loop])
    close(in_branch, want)
    close(in_loop, want)


@pytest.mark.exhaustive
@pytest.mark.skipif(
    not tf.executing_eagerly(), reason="TF 1.x runs eagerly only if the whole process does"
)
def test_tapes_and_functions():
    """Eagerly, in a tf.function with a branch, compiled by XLA, and by forward mode."""
    import tensorflow

    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(LOGITS)
        want = session.run(derivatives(loss_of(logits), logits))

    def by_tapes(logits):
        with tf.GradientTape() as outer:
            outer.watch(logits)
            with tf.GradientTape() as inner:
                inner.watch(logits)
                loss = loss_of(logits)
            gradient = inner.gradient(loss, logits)
            along = tf.reduce_sum(gradient * VECTOR)
        return [loss, gradient, outer.gradient(along, logits)]

    def in_a_branch(logits):
        loss = tf.cond(logits[0, 0] < 9, lambda: loss_of(logits), lambda: 0.0 * logits[0, 0])
        return derivatives(loss, logits)

    functions = [by_tapes, tensorflow.function(in_a_branch)]
    if "jit_compile" in inspect.signature(tensorflow.function).parameters:
        functions.append(tensorflow.function(by_tapes, jit_compile=True))
    logits = tf.constant(LOGITS)
    for function in functions:
        close([value.numpy() for value in function(logits)], want)
    with tensorflow.autodiff.ForwardAccumulator(logits, tf.constant(VECTOR)) as forward:
        loss = loss_of(logits, chunk_size=3)
    np.testing.assert_allclose(forward.jvp(loss), np.sum(want[1] * VECTOR), rtol=1e-10)


@pytest.mark.lengthy
def test_a_saved_graph_needs_no_list_of_forms():
    """Exported, and imported into another graph: every derivative of what was saved is built.

    The structure of each map is read from the graph. Maps that this process has made already would
    be found too, so the other process of the next test has made none.
    """
    with tf.Graph().as_default():
        logits = tf.placeholder_with_default(LOGITS, LOGITS.shape, name="logits")
        saved = derivatives(loss_of(logits, chunk_size=3), logits)
        for name, tensor in zip(("loss", "gradient", "product"), saved):
            tf.identity(tensor, name=name)
        meta_graph = tf.train.export_meta_graph()
    with tf.Graph().as_default() as graph, tf.Session(config=unoptimised()) as session:
        tf.train.import_meta_graph(meta_graph)
        logits, loss, gradient, product = (
            graph.get_tensor_by_name(name + ":0")
            for name in ("logits", "loss", "gradient", "product")
        )
        again = derivatives(loss, logits)[1:]
        again += tf.gradients(tf.reduce_sum(gradient * VECTOR), logits)
        found, want = session.run([again, [gradient, product, product]])
    close(found, want)


SAVE = """
import numpy as np
import tensorflow.compat.v1 as tf
from tests.losses.test_sharded_routes import LABELS, LOGITS, VECTOR, derivatives, loss_of
with tf.Graph().as_default():
    logits = tf.placeholder_with_default(LOGITS, LOGITS.shape, name="logits")
    options = dict(class_mask=np.arange(7) != 1, temperature=tf.constant(1.5), class_weights=None)
    saved = derivatives(loss_of(logits, **options), logits)
    along = tf.reduce_sum(saved[-1] * VECTOR)
    third, = tf.gradients(along, logits)
    for name, tensor in zip(("loss", "gradient", "product", "third"), saved + [third]):
        tf.identity(tensor, name=name)
    tf.train.export_meta_graph({graph!r})
"""

LOAD = """
import tensorflow.compat.v1 as tf
import tf1xent
with tf.Graph().as_default() as graph, tf.Session() as session:
    tf.train.import_meta_graph({graph!r})
    import numpy as np
    vector = np.random.RandomState(3).normal(size=(3, 7))
    logits, *saved = (
        graph.get_tensor_by_name(name + ":0")
        for name in ("logits", "loss", "gradient", "product", "third")
    )
    built = [tf.gradients(saved[0], logits)[0]]
    built += [tf.gradients(tf.reduce_sum(t * vector), logits)[0] for t in saved[1:3]]
    for got, want in zip(*session.run([built, saved[1:]])):
        assert np.any(want)
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
print("differentiated")
"""


@pytest.mark.exhaustive
def test_a_saved_graph_is_differentiated_in_another_process(tmp_path):
    """With nothing but TensorFlow and this package imported, to third order."""
    graph = str(tmp_path / "graph.meta")
    for program in (SAVE, LOAD):
        output = output_of("-c", program.format(graph=graph))
    assert "differentiated" in output
