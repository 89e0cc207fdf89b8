"""What all graph functions of this package share: arguments, and gradients that are dense.

The conventions are those of `tf.gradients`: `ys` and `xs` are tensors, variables or lists of them;
`ys` of any shape are summed. A partitioned variable is the list of its parts, a gradient of None is
a zero, IndexedSlices become dense, and integers are constants.
"""

import contextlib
from typing import Any, Iterator, List, Optional, Sequence

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Name, Tensor
from tf1xent.curvature.products.complete_moments import complete_moments
from tf1xent.curvature.products.missing_derivatives import explained, is_followed

# A tensor or variable, or a list of them.
Tensors = Any


def as_list(tensors: Tensors) -> List[Tensor]:
    """Returns a list of tensors or variables; a partitioned variable becomes its parts."""
    given = list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]
    parts: List[Tensor] = []
    for tensor in given:
        # A PartitionedVariable is iterable, a tensor in a graph says that it is not.
        parts += list(tensor) if hasattr(tensor, "_get_partitions") else [tensor]
    return parts


def real_tensors(function: str, argument: str, tensors: Tensors) -> List[Tensor]:
    """Returns `as_list(tensors)`; TypeError for what is no tensor or variable, or is complex."""
    found = as_list(tensors)
    for tensor in found:
        # Eager variables have a handle instead of an op.
        if _tf.tensor_of(tensor) is None and not hasattr(tensor, "handle"):
            raise TypeError(
                f"{function}: `{argument}` must be tensors or variables, got "
                f"{type(tensor).__name__}. Give what tf.gradients takes."
            )
        if tensor.dtype.is_complex:
            raise TypeError(
                f"{function}: `{argument}` must be real, got {tensor.dtype.base_dtype.name}. "
                "Differentiate by the real and the imaginary part."
            )
    return found


def found_gradients(
    ys: Sequence[Tensor],
    xs: Sequence[Tensor],
    grad_ys: Optional[Sequence[Tensor]] = None,
    **options: Any,
) -> List[Any]:
    """What `tf.gradients` returns, with None or IndexedSlices; integers in `ys` are left out.

    `grad_ys` are not differentiated, and may depend on `xs`. `options` are those of `tf.gradients`.
    """
    kept = [i for i, y in enumerate(ys) if is_followed(y)]
    if not kept or not xs:
        return [None] * len(xs)
    seeds = None if grad_ys is None else [grad_ys[i] for i in kept]
    if _are_placed(ys) or _are_placed(xs):
        options.setdefault("colocate_gradients_with_ops", True)
    return list(tf.gradients([ys[i] for i in kept], list(xs), grad_ys=seeds, **options))


def _are_placed(tensors: Sequence[Tensor]) -> bool:
    """Whether a program chose devices of tensors in its graph.

    Then gradients are computed beside the ops that they are gradients of: without, TensorFlow
    builds them for one device, and moves shards of variables there.
    """
    return _tf.in_plain_graph() and any(tensor.device for tensor in tensors)


def gradients(
    ys: Sequence[Tensor],
    xs: Sequence[Tensor],
    grad_ys: Optional[Sequence[Tensor]] = None,
    **options: Any,
) -> List[Tensor]:
    """Gradients of the sum of `ys` in `xs`: dense, and zeros where `ys` do not depend on one."""
    return dense(found_gradients(ys, xs, grad_ys, **options), xs)


def dense(found: Sequence[Any], xs: Sequence[Tensor]) -> List[Tensor]:
    """What `tf.gradients` returns for `xs`, as tensors of their shapes."""
    tensors = []
    for gradient, x in zip(found, xs):
        with _tf.beside(x):
            tensors.append(
                tf.zeros_like(x)
                if gradient is None
                else _tf.with_static_shape(tf.convert_to_tensor(gradient), x.shape)
            )
    return tensors


def matching(
    function: str, argument: str, vectors: Tensors, tensors: Sequence[Tensor], name: str
) -> List[Tensor]:
    """Returns one vector for each of `tensors`, which are the argument `name`; zeros for None."""
    given = as_list(vectors)
    if len(given) != len(tensors):
        raise ValueError(
            f"{function}: `{argument}` must hold one tensor for each of `{name}`, got {len(given)} "
            f"for {len(tensors)}. A partitioned variable counts as its parts."
        )
    found = []
    for vector, tensor in zip(given, tensors):
        with _tf.beside(tensor):
            found.append(_like(function, argument, vector, tensor, name))
    return found


def _like(function: str, argument: str, vector: Any, tensor: Tensor, name: str) -> Tensor:
    """`vector` as a tensor of the dtype and shape of `tensor`, checked in the run if need be."""
    if vector is None:
        return tf.zeros_like(tensor)
    dtype = tensor.dtype.base_dtype
    if isinstance(getattr(vector, "dtype", None), tf.DType) and vector.dtype.base_dtype != dtype:
        raise TypeError(
            f"{function}: `{argument}` must have the dtypes of `{name}`, got "
            f"{vector.dtype.base_dtype.name} for {dtype.name}. Use tf.cast."
        )
    vector = tf.convert_to_tensor(vector, dtype)
    if not vector.shape.is_compatible_with(tensor.shape):
        raise ValueError(
            f"{function}: `{argument}` must have the shapes of `{name}`, got {vector.shape} for "
            f"{tensor.shape}. Give them in the same order."
        )
    if vector.shape.is_fully_defined() and tensor.shape.is_fully_defined():
        return vector
    # A vector of another shape would be broadcast without a word.
    message = f"{function}: `{argument}` must have the shapes of `{name}`."
    check = tf.assert_equal(tf.shape(vector), tf.shape(tensor), message=message)
    with tf.control_dependencies([check]):
        return _tf.with_static_shape(tf.identity(vector), tensor.shape)


@contextlib.contextmanager
def graph_function(function: str, *tensors: Sequence[Tensor], name: Name = None) -> Iterator[None]:
    """The body of a public function: in a scope of its name, with complete second derivatives."""
    together = [tensor for group in tensors for tensor in group]
    with tf.name_scope(name, function, together), explained(function), complete_moments(together):
        yield
