"""What all graph functions of this package share: arguments, dense gradients, errors with a remedy.

The conventions are those of `tf.gradients`: `ys` and `xs` are tensors, variables or lists of them;
a partitioned variable is the list of its parts; `ys` of any shape are summed. A gradient of None is
a zero, and IndexedSlices become dense. Integers are constants.
"""

import contextlib
from typing import Any, Iterator, List, Optional, Sequence

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Tensor, TensorLike
from tf1xent.errors import MissingDerivativeError

# One of them or a list.
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
        if not hasattr(tensor, "dtype") or not hasattr(tensor, "graph"):
            if tf.executing_eagerly():  # there neither tensors nor variables have a graph
                continue
            raise TypeError(
                f"{function}: `{argument}` must be tensors or variables, got "
                f"{type(tensor).__name__}. Give what tf.gradients takes."
            )
        if tensor.dtype.is_complex:
            raise TypeError(
                f"{function}: `{argument}` must be real, got {tensor.dtype.base_dtype.name}. "
                "Differentiate in the real and the imaginary part."
            )
    return found


def is_followed(tensor: Tensor) -> bool:
    """Whether a tensor has derivatives; integers, booleans and strings have none."""
    return bool(tensor.dtype.is_floating)


def gradients(
    ys: Sequence[Tensor],
    xs: Sequence[Tensor],
    grad_ys: Optional[Sequence[Tensor]] = None,
    **options: Any,
) -> List[Tensor]:
    """Gradients of the sum of `ys` in `xs`: dense, and zeros where `ys` do not depend on one.

    `grad_ys` are not differentiated, and may depend on `xs`. `options` are those of `tf.gradients`.
    """
    pairs = [(y, None if grad_ys is None else grad_ys[i]) for i, y in enumerate(ys)]
    pairs = [(y, seed) for y, seed in pairs if is_followed(y)]
    found = [None] * len(xs)
    if pairs:
        seeds = None if grad_ys is None else [seed for _, seed in pairs]
        found = tf.gradients([y for y, _ in pairs], list(xs), grad_ys=seeds, **options)
    return [dense(gradient, x) for gradient, x in zip(found, xs)]


def dense(gradient: Any, x: Tensor) -> Tensor:
    """What `tf.gradients` returns for `x`, as a tensor of its shape."""
    if gradient is None:
        return tf.zeros_like(x)
    return _tf.with_static_shape(tf.convert_to_tensor(gradient), x.shape)


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
    return [_like(function, argument, *pair, name) for pair in zip(given, tensors)]


def _like(
    function: str, argument: str, vector: Optional[TensorLike], tensor: Tensor, name: str
) -> Tensor:
    """`vector` as a tensor of the dtype and shape of `tensor`, checked in the run if need be."""
    if vector is None:
        return tf.zeros_like(tensor)
    dtype = tensor.dtype.base_dtype
    if hasattr(vector, "graph") and vector.dtype.base_dtype != dtype:
        raise TypeError(
            f"{function}: `{argument}` must have the dtypes of `{name}`, got "
            f"{vector.dtype.base_dtype.name} for {dtype.name}. Use tf.cast."
        )
    vector = tf.convert_to_tensor(vector, dtype)
    if not vector.shape.is_compatible_with(tensor.shape):
        raise ValueError(
            f"{function}: `{argument}` must have the shapes of `{name}`, got {vector.shape} for "
            f"{tensor.shape}. Give them in the same order, each of the shape of its tensor."
        )
    if vector.shape.is_fully_defined() and tensor.shape.is_fully_defined():
        return vector
    # A vector of another shape would be broadcast without a word.
    message = f"{function}: `{argument}` must have the shapes of `{name}`."
    check = tf.assert_equal(tf.shape(vector), tf.shape(tensor), message=message)
    with tf.control_dependencies([check]):
        return _tf.with_static_shape(tf.identity(vector), tensor.shape)


@contextlib.contextmanager
def graph_function(function: str, *tensors: Sequence[Tensor]) -> Iterator[None]:
    """The body of a public function: in a scope of its name and the graph of its tensors.

    A derivative that TensorFlow refuses becomes a MissingDerivativeError that says what to do.
    """
    with tf.name_scope(None, function, [tensor for group in tensors for tensor in group]):
        try:
            yield
        except (MissingDerivativeError, KeyError, IndexError):
            raise
        except LookupError as error:
            raise MissingDerivativeError(
                f"{function}: every op between `xs` and `ys` must have a second derivative, got "
                f"from TensorFlow: {error}. Call tf1xent.override_gradients() first, or build the "
                "model after tf1xent.patch(); tf1xent.audit names the ops."
            ) from error
        except TypeError as error:
            if "gradient for while loops" not in str(error):
                raise
            raise MissingDerivativeError(
                f"{function}: loops between `xs` and `ys` must be v2 loops, got a v1 while loop: "
                "TensorFlow does not differentiate it twice. Build the model after "
                "tf1xent.patch(control_flow_v2=True) or tf.enable_control_flow_v2()."
            ) from error
