"""Dense Hessians: a drop-in for `tf.hessians`, and the blocks between variables."""

from typing import Any, Dict, List, Optional, Sequence, Union

from tf1xent._tf import tf
from tf1xent._typing import Name, Tensor
from tf1xent.curvature.products.differentiation import (
    Tensors,
    gradients,
    graph_function,
    real_tensors,
)
from tf1xent.curvature.products.missing_derivatives import require_second_derivative
from tf1xent.curvature.products.unit_vectors import over_entries, require_graph

__all__ = ["hessians"]


def hessians(
    ys: Tensors,
    xs: Tensors,
    name: Name = "hessians",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: Optional[int] = None,
    *,
    cross_blocks: bool = False,
) -> Union[List[Tensor], List[List[Tensor]]]:
    """The Hessian of the sum of `ys` in each of `xs`: a drop-in for `tf.hessians`.

    Use it for small `xs`, since it takes one product for each of their numbers, in a loop. Unlike
    `tf.hessians` it returns zeros where `ys` do not depend on one of `xs`, or depend linearly;
    takes scalars, empty tensors and partitioned variables; and has the blocks between variables::

        H[i][j] = d2 y / d xs[i] d xs[j],      H[i][j] = H[j][i] transposed

    Args:
      ys: a tensor or a list of them, of any shapes, which are summed.
      xs: a tensor, a variable or a list of them, of any ranks, shapes known or not.
      name: a name scope for the ops.
      colocate_gradients_with_ops, gate_gradients, aggregation_method: as for `tf.gradients`.
      cross_blocks: whether to return the blocks between different `xs` too.

    Returns:
      A list of tensors, one for each of `xs`, of shape ``x.shape + x.shape``. With `cross_blocks` a
      list of lists, ``H[i][j]`` of shape ``xs[i].shape + xs[j].shape``.

    **Derivatives**: those of a while loop: with v2 control flow of every order, else none.

    Raises:
      TypeError: (graph build) an argument is no tensor or variable, or is complex.
      ValueError: (graph build) `xs` hold a variable of eager execution, in a tf.function.
      tf1xent.errors.MissingDerivativeError: (graph build) an op between has no second derivative:
        TensorFlow's own cross-entropy on TF 1.x, a v1 while loop. The message names a remedy.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import hessians
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     x, y = tf.constant(2.0), tf.constant([1.0, 3.0])
    ...     blocks = hessians(x * tf.reduce_sum(y * y), [x, y], cross_blocks=True)
    ...     print(session.run(blocks[0][1]))
    ...     print(session.run(blocks[1][1]))
    [2. 6.]
    [[4. 0.]
     [0. 4.]]
    """
    function = "hessians"
    ys, xs = real_tensors(function, "ys", ys), real_tensors(function, "xs", xs)
    require_graph(function, "xs", xs)
    options: Dict[str, Any] = {
        "colocate_gradients_with_ops": colocate_gradients_with_ops,
        "gate_gradients": gate_gradients,
        "aggregation_method": aggregation_method,
    }
    groups = [xs] if cross_blocks else [[x] for x in xs]
    with graph_function(function, ys, xs, name=name):
        for group in groups:
            require_second_derivative(function, ys, group)
        first = gradients(ys, xs, **options)
        rows = [
            _blocks(gradient, x, xs if cross_blocks else [x], options)
            for gradient, x in zip(first, xs)
        ]
    return rows if cross_blocks else [row[0] for row in rows]


def _blocks(
    gradient: Tensor, x: Tensor, xs: Sequence[Tensor], options: Dict[str, Any]
) -> List[Tensor]:
    """The derivatives of the gradient in `x` by each of `xs`: of shape x.shape + xs[i].shape."""

    def rows(unit_vector: Tensor) -> List[Tensor]:
        return gradients([gradient], xs, [unit_vector], **options)

    columns = over_entries(x, rows, [other.dtype.base_dtype for other in xs])
    return [_shaped(column, x, other) for column, other in zip(columns, xs)]


def _shaped(block: Tensor, x: Tensor, other: Tensor) -> Tensor:
    shaped = tf.reshape(block, tf.concat([tf.shape(x), tf.shape(other)], 0))
    shaped.set_shape(x.shape.concatenate(other.shape))
    return shaped
