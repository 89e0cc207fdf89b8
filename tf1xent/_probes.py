"""What TensorFlow's own ops lack: found by asking them, on graphs of a few numbers."""

import functools

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf


def _stock_gradients():
    # TensorFlow's own gradients under names of ours: an override in force must not be probed.
    names = {op_type: "Tf1xentStock" + op_type for op_type in _tf.STOCK_GRADIENTS}
    for op_type, function in _tf.STOCK_GRADIENTS.items():
        _tf.register_gradient(names[op_type], function)
    return names


def _run(build):
    """Runs the tensors of `build(sparse, dense)`; an error is the answer too."""
    sparse = _tf.stock_public_function("sparse_softmax_cross_entropy_with_logits")
    dense = _tf.stock_public_function("softmax_cross_entropy_with_logits_v2")
    with tf.Graph().as_default() as graph, graph.gradient_override_map(_stock_gradients()):
        try:
            tensors = build(sparse, dense)
            with tf.Session(graph=graph, config=tf.ConfigProto(device_count={"GPU": 0})) as session:
                return session.run(tensors)
        except Exception as error:  # such as that of a debugger that checks every op for NaN
            return type(error).__name__


def _sparse_second_derivative(sparse, _):
    logits = tf.constant([[0.0, 0.0]])
    return tf.hessians(sparse(labels=tf.constant([0]), logits=logits), logits)


def _dense_mixed_derivative(_, dense):
    logits, labels = tf.constant([[0.0, 0.0]]), tf.constant([[1.0, 0.0]])
    (gradient,) = tf.gradients(dense(labels=labels, logits=logits), logits)
    (mixed,) = tf.gradients(gradient[:, 0], labels)
    return tf.zeros_like(labels) if mixed is None else mixed


def _unnormalised_gradient(_, dense):
    logits, labels = tf.constant([[0.0, 0.0]]), tf.constant([[2.0, 0.0]])
    return tf.gradients(dense(labels=labels, logits=logits), logits)[0]


def _masked_class_loss(_, dense):
    return dense(labels=tf.constant([[1.0, 0.0]]), logits=tf.constant([[0.0, -np.inf]]))


def _confident_loss(sparse, _):
    return sparse(labels=tf.constant([0]), logits=tf.constant([[50.0, 0.0]]))


def _is_right_hessian(hessian):
    return np.allclose(hessian.reshape(2, 2), [[0.25, -0.25], [-0.25, 0.25]])


@functools.lru_cache(maxsize=None)
def sparse_op_has_second_derivative():
    """Whether TensorFlow itself differentiates its sparse op twice, and rightly."""
    answer = _run(_sparse_second_derivative)
    return not isinstance(answer, str) and _is_right_hessian(np.asarray(answer))


@functools.lru_cache(maxsize=None)
def stock_deficiencies():
    """What this TensorFlow's own functions answer where tf1xent answers rightly: pairs of text."""
    findings = []

    def probe(what, build, is_right):
        answer = _run(build)
        if isinstance(answer, str):
            findings.append((what, "raises " + answer))
        else:
            findings.append((what, "right" if is_right(np.asarray(answer)) else "wrong"))

    probe(
        "second derivative of the sparse op",
        _sparse_second_derivative,
        _is_right_hessian,
    )
    probe(
        "mixed derivative of the dense op in labels and logits",
        _dense_mixed_derivative,
        lambda mixed: np.allclose(mixed, [[-0.5, 0.5]]),
    )
    probe(
        "gradient of the dense op for labels that do not sum to 1",
        _unnormalised_gradient,
        lambda gradient: np.allclose(gradient, [[-1.0, 1.0]]),
    )
    probe(
        "loss of the dense op with a masked class",
        _masked_class_loss,
        lambda loss: np.allclose(loss, 0.0),
    )
    probe(
        "loss of a confident prediction (margin 50, float32)",
        _confident_loss,
        lambda loss: np.allclose(loss, np.exp(-50.0), rtol=1e-5, atol=0.0),
    )
    return tuple(findings)
