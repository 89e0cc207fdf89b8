"""What TensorFlow's second derivative of a loss is in truth: right, wrong, or an error.

The oracle is a central difference of TensorFlow's own first gradient. It shares no code with the
audit, which never runs anything.
"""

import re
import warnings
from typing import NamedTuple, Optional

import numpy as np
import tensorflow.compat.v1 as tf

import tf1xent
from tf1xent.second_order import Kind, audit

_OP_TYPE = re.compile(r"\(op type: (\w+)\)")


class Truth(NamedTuple):
    """What `second_derivative` found.

    Attributes:
        outcome: "right", "wrong", "raises" or "no gradient".
        op_type: the op type that the error names, if it does.
        detail: the error's message, or by how much the derivative is off.
        is_zero: whether TensorFlow returned None everywhere.
    """

    outcome: str
    op_type: Optional[str] = None
    detail: str = ""
    is_zero: bool = False


def second_derivative(loss, variables, steps=(1e-2, 1e-3, 1e-4, 1e-5), tolerance=2e-2):
    """Compares products of the Hessian with finite differences of the gradient.

    The derivatives are built before anything is run, because TensorFlow wants it so where there
    are v2 loops and branches. A graph serves for one call.

    Args:
        loss: scalar tensor of the default graph.
        variables: what it is differentiated by.
        steps: of the differences, relative to the size of a direction. The best one counts: large
            ones cross kinks, small ones lose digits; a derivative that is wrong is so for all.
        tolerance: relative to the norm of the product.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dense IndexedSlices
        try:
            gradients = tf.gradients(loss, variables)
            if all(gradient is None for gradient in gradients):
                return Truth("no gradient")
            gradients = _dense(gradients, variables)
            directions = [tf.placeholder(g.dtype, g.shape) for g in gradients]
            products = tf.gradients(gradients, variables, grad_ys=directions)
        except Exception as error:
            return _raises(error)
        is_zero = all(product is None for product in products)
        products = _dense(products, variables)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        try:
            worst = _worst(session, variables, gradients, directions, products, steps)
        except tf.errors.OpError as error:
            return _raises(error)
    return Truth("right" if worst < tolerance else "wrong", None, f"off by {worst:.1e}", is_zero)


def _worst(session, variables, gradients, directions, products, steps):
    """The relative error of the products along a random direction."""
    values = session.run(variables)
    random = np.random.RandomState(0)
    chosen = [random.normal(size=value.shape) for value in values]
    found = _flat(session.run(products, dict(zip(directions, chosen))))
    errors = []
    for step in steps:
        ahead, behind = (
            _gradients_at(
                [v + sign * step * c for v, c in zip(values, chosen)], variables, gradients, session
            )
            for sign in (1, -1)
        )
        exact = (ahead - behind) / (2 * step)
        errors.append(np.linalg.norm(found - exact) / (np.linalg.norm(exact) + 1e-6))
    return min(errors)


def _gradients_at(values, variables, gradients, session):
    initializers = [variable.initializer for variable in variables]
    session.run(initializers, {op.inputs[1]: v for op, v in zip(initializers, values)})
    return _flat(session.run(gradients))


def _dense(gradients, variables):
    return [
        tf.zeros(v.shape, v.dtype.base_dtype) if g is None else tf.convert_to_tensor(g)
        for g, v in zip(gradients, variables)
    ]


def _flat(arrays):
    return np.concatenate([np.ravel(array).astype(np.float64) for array in arrays])


def _raises(error):
    message = str(error)
    named = _OP_TYPE.search(message)
    op_type = named.group(1) if named else None
    if "Gradient explicitly disabled" in message:
        op_type = "PreventGradient"
    return Truth("raises", op_type, f"{type(error).__name__}: {message[:200]}")


def agreement(build):
    """Audits a loss and finds the truth, as things are and after override_gradients.

    `build` returns the loss and what it is differentiated by; it is called in graphs of its own.
    Returns the audit as things are.
    """
    audited, truth = _audited(build)
    agrees(audited, audited.has_second_derivative, truth)
    if audited.obstacles:
        tf1xent.override_gradients()
        try:
            overridden, truth = _audited(build)
        finally:
            tf1xent.restore_gradients()
        agrees(overridden, overridden.has_second_derivative, truth)
        agrees(audited, not audited.needs_more_than_override, truth)
    return audited


def _audited(build):
    with tf.Graph().as_default() as graph:
        loss, variables = build()
        before = len(graph.get_operations())
        audited = audit(loss, variables)
        assert len(graph.get_operations()) == before
        truth = second_derivative(loss, variables)
    if len(variables) == 1:
        _agrees_with_hessians(audited, build)
    return audited, truth


# Where TensorFlow may leave a part out instead of raising.
_SILENT = {Kind.LEFT_OUT, Kind.LOOP, Kind.CALL}


def _agrees_with_hessians(audited, build):
    """Fails if tf.hessians is built in spite of the audit, or not built in spite of it.

    In a graph of its own: on 1.15 a v2 loop can be differentiated twice only once.
    """
    try:
        with tf.Graph().as_default():
            tf.hessians(*build())
    except Exception as error:
        assert not audited.has_second_derivative or audited.is_zero, f"{error}\n{audited}"
    else:
        is_silent = any(
            found.kind in _SILENT or found.op_type.startswith("TensorArray")  # fails when it is run
            for found in audited.obstacles
        )
        yes = audited.has_second_derivative and not audited.is_zero
        assert yes or is_silent, audited


def agrees(audited, says_yes, truth):
    """Fails if an audit does not say what is true."""
    told = f"{truth}\n{audited}"
    if says_yes:
        assert truth.outcome == "right", told
        assert audited.obstacles or audited.is_zero == truth.is_zero, told
    else:
        assert truth.outcome != "right", told
        met = {found.meets for found in audited.obstacles}
        assert truth.op_type is None or truth.op_type in met, told
