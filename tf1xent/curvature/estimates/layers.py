"""An estimate for each layer."""

from typing import Any, Callable, Dict, TypeVar

__all__ = ["per_layer"]

Estimate = TypeVar("Estimate")


def per_layer(operator: Any, estimate: Callable[[Any], Estimate]) -> Dict[str, Estimate]:
    """An estimate of the diagonal block of each layer: where in a network the curvature is.

    A layer is a set of variables that share their scope, as `operator.parameters.layers()` has
    them. The traces of the layers sum to that of the whole matrix; their eigenvalues are not those
    of the whole matrix, which has blocks between the layers too.

    Args:
      operator: an operator of `tf1xent.curvature`, such as `HessianOperator`.
      estimate: a function of one operator, such as `tf1xent.curvature.trace`; `functools.partial`
        or a lambda sets its arguments.

    Returns:
      A dict of the layers' names, in the order of their variables, and of what `estimate` returns
      for ``operator.submatrix(layer)``.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import HessianOperator, per_layer, trace
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     with tf.variable_scope("first"):
    ...         w = tf.get_variable("w", initializer=[1.0, 2.0])
    ...     with tf.variable_scope("second"):
    ...         b = tf.get_variable("b", initializer=3.0)
    ...     session.run(tf.global_variables_initializer())
    ...     hessian = HessianOperator(session, tf.reduce_sum(w**2) + b**4, [w, b], [{}])
    ...     for layer, found in per_layer(hessian, trace).items():
    ...         print(layer, found.value)
    first 4.0
    second 108.0
    """
    return {layer: estimate(operator.submatrix(layer)) for layer in operator.parameters.layers()}
