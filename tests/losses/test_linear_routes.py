"""The loss over a large vocabulary by tapes, functions, XLA, forward mode, and in saved graphs."""

import inspect

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.losses.linear_layer import BIASES, INPUTS, WEIGHTS
from tests.support.processes import output_of
from tf1xent import losses


@pytest.mark.exhaustive
@pytest.mark.skipif(
    not tf.executing_eagerly(), reason="TF 1.x runs eagerly only if the whole process does"
)
def test_tapes_and_functions():
    """Eagerly, in a tf.function, compiled by XLA, and by forward mode: what graphs compute."""
    import tensorflow

    labels, values = np.array([0, 6, 3]), (INPUTS[0], WEIGHTS, BIASES)

    def run(inputs, weights, biases):
        operands = [inputs, weights, biases]
        with tf.GradientTape() as outer:
            outer.watch(operands)
            with tf.GradientTape() as inner:
                inner.watch(operands)
                loss = losses.linear_softmax_cross_entropy(
                    labels, *operands, chunk_size=4, loss_collection=None
                )
            gradients = inner.gradient(loss, operands)
            total = sum(tf.reduce_sum(tf.sin(g)) for g in gradients)
        return [loss] + gradients + outer.gradient(total, operands)

    def weights_alone(inputs, weights, biases):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = losses.linear_softmax_cross_entropy(
                labels, inputs, weights, biases, chunk_size=4, loss_collection=None
            )
        return tape.gradient(loss, weights)

    with tf.Graph().as_default(), tf.Session() as session:
        tensors = [tf.constant(value) for value in values]
        loss = losses.linear_softmax_cross_entropy(labels, *tensors, chunk_size=4)
        gradients = tf.gradients(loss, tensors)
        products = tf.gradients(sum(tf.reduce_sum(tf.sin(g)) for g in gradients), tensors)
        want = session.run([loss] + gradients + products)
    tensors = [tf.constant(value) for value in values]
    functions = [run, tensorflow.function(run)]
    if "jit_compile" in inspect.signature(tensorflow.function).parameters:
        functions.append(tensorflow.function(run, jit_compile=True))
    for function in functions:
        for one, other in zip(function(*tensors), want):
            np.testing.assert_allclose(one.numpy(), other, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(weights_alone(*tensors).numpy(), want[2], rtol=1e-10, atol=1e-13)

    direction = np.random.RandomState(4).normal(size=WEIGHTS.shape)
    with tensorflow.autodiff.ForwardAccumulator(tensors[1], tf.constant(direction)) as forward:
        loss = losses.linear_softmax_cross_entropy(
            labels, *tensors, chunk_size=4, loss_collection=None
        )
    slope = forward.jvp(loss).numpy()
    np.testing.assert_allclose(slope, np.sum(want[2] * direction), rtol=1e-10)


SAVE = """
import numpy as np
import tensorflow.compat.v1 as tf
import tf1xent
with tf.Graph().as_default():
    values = np.load({values!r})
    operands = [tf.constant(values[name]) for name in ("inputs", "weights", "biases")]
    loss = tf1xent.losses.linear_softmax_cross_entropy(values["labels"], *operands, chunk_size=4)
    gradients = tf.gradients(loss, operands)
    product = tf.gradients(sum(tf.reduce_sum(tf.sin(g)) for g in gradients), operands[:2])
    tf.add_to_collection("loss", loss)
    for collection, tensors in (("operands", operands), ("first", gradients), ("second", product)):
        for tensor in tensors:
            tf.add_to_collection(collection, tensor)
    tf.train.export_meta_graph({graph!r})
"""

LOAD = """
import numpy as np
import tensorflow.compat.v1 as tf
import tf1xent
from tests.support.option_cases import unoptimised
with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
    tf.train.import_meta_graph({graph!r})
    (loss,) = tf.get_collection("loss")
    operands, first, second = map(tf.get_collection, ("operands", "first", "second"))
    total = lambda tensors: sum(tf.reduce_sum(tf.sin(t)) for t in tensors)
    pairs = zip(
        tf.gradients(loss, operands) + tf.gradients(total(first), operands[:2]), first + second
    )
    for got, want in session.run(list(pairs)):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-13)
        assert np.any(want)
    third = session.run(tf.gradients(total(second), operands))
    assert all(np.any(value) and np.isfinite(value).all() for value in third)
print("differentiated")
"""


@pytest.mark.exhaustive
def test_a_saved_graph_is_differentiated_in_another_process(tmp_path):
    """The loss, its saved gradients and its saved Hessian-vector product."""
    values, graph = str(tmp_path / "values.npz"), str(tmp_path / "graph.meta")
    np.savez(values, inputs=INPUTS[0], weights=WEIGHTS, biases=BIASES, labels=np.array([0, 6, 3]))
    for program in (SAVE, LOAD):
        output = output_of("-c", program.format(values=values, graph=graph))
    assert "differentiated" in output
