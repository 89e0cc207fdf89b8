"""`jacobian` and `batch_jacobian` of the losses' gradients, by pfor."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.ops.parallel_for import gradients

from tests.seam.vectorized import ROWS, Data, arrays_of, data, loss_of
from tests.support import option_cases

# --- Jacobians ---------------------------------------------------------------------------------


def hessians(loss, logits, labels, tapes):
    """The Hessian of each row, by each of TensorFlow's routes: [ROWS, classes, classes]."""

    def rows_of(jacobian):  # [ROWS, classes, ROWS, classes], zero between rows
        return tf.stack([jacobian[row, :, row] for row in range(ROWS)])

    (gradient,) = tf.gradients(loss(logits, labels), logits)
    found = {"jacobian": rows_of(gradients.jacobian(gradient, logits))}
    if isinstance(logits.shape[0], tf.Dimension):  # that of TF 2.x takes no other sizes
        found["batch_jacobian"] = gradients.batch_jacobian(gradient, logits)
    if not tapes:
        return found
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(logits)
        with tf.GradientTape() as inner:
            inner.watch(logits)
            values = loss(logits, labels)
        gradient = inner.gradient(values, logits)
    found["tape_jacobian"] = rows_of(outer.jacobian(gradient, logits))
    found["tape_batch_jacobian"] = outer.batch_jacobian(gradient, logits)
    return found


def check_hessians(implementation, kind, num_classes, static="known"):
    values = data(num_classes)
    arrays = arrays_of(kind, values, np.int32)
    with tf.Graph().as_default(), tf.Session() as session:
        logits, labels = (
            option_cases.placeholder(arrays[name][0], static) for name in ("logits", "labels")
        )
        loss = loss_of(kind, implementation)
        # Tapes of TF 1.x do not keep what the sparse op's second derivative needs.
        tapes = (implementation, kind) != ("stock", "sparse")
        results = session.run(hessians(loss, logits, labels, tapes))
    first = Data(num_classes)
    first.logits, first.distributions = first.logits[:1], first.distributions[:1]
    first.check_hessian(kind, **results)


@pytest.mark.exhaustive
@pytest.mark.parametrize("num_classes, static", [(10, "known"), (70, "unknown sizes")])
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_hessians_of_the_graph_version(kind, num_classes, static):
    check_hessians("graph", kind, num_classes, static)


@pytest.mark.parametrize("kind, static", [("sparse", "known"), ("dense", "unknown sizes")])
def test_hessians_of_the_kernels(library, kind, static):
    check_hessians("kernel", kind, 10, static)


def test_hessians_of_tensorflows_own_ops_with_overridden_gradients(overridden):
    for kind in ("sparse", "dense"):
        check_hessians("stock", kind, 10)


# --- Eagerly, and in functions -----------------------------------------------------------------


@pytest.mark.parametrize(
    "implementation", ["graph", pytest.param("kernel", marks=pytest.mark.lengthy), "auto"]
)
def test_maps_and_jacobians_of_each_other_in_a_function(implementation, request):
    if implementation != "graph":
        request.getfixturevalue("library")
    if not (hasattr(tf, "vectorized_map") and hasattr(tf, "function")):
        pytest.skip("this TensorFlow has no tf.vectorized_map")
    values = data(10)

    def hessian(pair, kind):
        logits, labels = pair
        with tf.GradientTape() as outer:
            outer.watch(logits)
            with tf.GradientTape() as inner:
                inner.watch(logits)
                loss = loss_of(kind, implementation)(logits, labels)
            gradient = inner.gradient(loss, logits)
        return outer.batch_jacobian(gradient, logits)

    for kind in ("sparse", "dense"):
        arrays = arrays_of(kind, values, np.int64)

        def mapped(logits, labels, kind=kind):
            return tf.vectorized_map(lambda pair: hessian(pair, kind), (logits, labels))

        with tf.Graph().as_default(), tf.Session() as session:
            tensors = [tf.constant(arrays[name]) for name in ("logits", "labels")]
            got = session.run(tf.function(mapped, autograph=False)(*tensors))
        values.check_hessian(kind, function=got)
        if tf.executing_eagerly():
            got = mapped(*(tf.constant(arrays[name]) for name in ("logits", "labels"))).numpy()
            values.check_hessian(kind, eagerly=got)
