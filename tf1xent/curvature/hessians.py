"""Dense Hessians: a drop-in for `tf.hessians`, and the blocks between variables."""

from typing import Any, List, Optional, Sequence, Union

from tf1xent._tf import tf
from tf1xent._typing import Name, Tensor
from tf1xent.curvature.differentiation import Tensors, gradients, graph_function, real_tensors
from tf1xent.curvature.unit_vectors import over_entries


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
    """The Hessian of the sum of `ys`, in each of `xs`, or in all pairs of them."""
    ys, xs = real_tensors("hessians", "ys", ys), real_tensors("hessians", "xs", xs)
    options = {
        "colocate_gradients_with_ops": colocate_gradients_with_ops,
        "gate_gradients": gate_gradients,
        "aggregation_method": aggregation_method,
    }
    with tf.name_scope(name, "hessians", ys + xs), graph_function("hessians", ys, xs):
        first = gradients(ys, xs, **options)
        if cross_blocks:
            return [_blocks(first[i], x, xs, options) for i, x in enumerate(xs)]
        return [_blocks(first[i], x, [x], options)[0] for i, x in enumerate(xs)]


def _blocks(gradient: Tensor, x: Tensor, xs: Sequence[Tensor], options: Any) -> List[Tensor]:
    """The derivatives of the gradient in `x` in each of `xs`: of shape x.shape + xs[i].shape."""

    def row(unit_vector: Tensor) -> Tensor:
        parts = gradients([gradient], xs, [unit_vector], **options)
        return tf.concat([tf.reshape(part, [-1]) for part in parts], 0)

    rows = over_entries(x, row)
    sizes = [tf.size(other) for other in xs]
    blocks = tf.split(rows, sizes, axis=1) if len(xs) > 1 else [rows]
    return [_shaped(block, x, other) for block, other in zip(blocks, xs)]


def _shaped(block: Tensor, x: Tensor, other: Tensor) -> Tensor:
    shaped = tf.reshape(block, tf.concat([tf.shape(x), tf.shape(other)], 0))
    if x.shape.ndims is not None and other.shape.ndims is not None:
        shaped.set_shape(x.shape.concatenate(other.shape))
    return shaped
