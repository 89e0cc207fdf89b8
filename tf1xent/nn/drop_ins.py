"""Drop-ins for TensorFlow's softmax cross-entropy functions, exact to every order.

They take the arguments that TensorFlow's functions of the same name take in ``tf.compat.v1.nn`` on
the TensorFlow at hand, return tensors of the same shape, dtype and name, and refuse what those
refuse. The values, and the derivatives of every order, are those of the closed forms in
`tf1xent._math.softmax`.
"""

from typing import Optional

from tf1xent import _tf
from tf1xent._loss import batch
from tf1xent._loss.implementation import uses_kernels
from tf1xent._math import softmax, softmax_kernels
from tf1xent._math.dtypes import is_half
from tf1xent._math.labels import checked_labels
from tf1xent._math.matrix import Sizes
from tf1xent._tf import tf
from tf1xent._typing import Labels, Logits, Name, Tensor

__all__ = [
    "softmax_cross_entropy_with_logits",
    "softmax_cross_entropy_with_logits_v2",
    "sparse_softmax_cross_entropy_with_logits",
]

_SPARSE = "sparse_softmax_cross_entropy_with_logits"
_DENSE = "softmax_cross_entropy_with_logits_v2"


@_tf.as_drop_in(_SPARSE)
def sparse_softmax_cross_entropy_with_logits(
    labels: Optional[Labels] = None,
    logits: Optional[Logits] = None,
    name: Name = None,
    *,
    implementation: Optional[str] = None,
) -> Tensor:
    """Cross-entropy of integer labels and the softmax of logits, one loss per example.

    For one example with logits x and label y::

        loss = log(sum_j exp(x_j)) - x_y

    computed so that its relative error stays at a few roundings, also where the loss is far below
    the dtype's epsilon.

    Args:
      labels: `Tensor` of int32 or int64, `[d_0, ..., d_{r-1}]`, values in `[0, num_classes)`.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[d_0, ..., d_{r-1}, num_classes]`.
        half and bfloat16 are computed in float32. A logit of -inf leaves its class out.
      name: name of the operation.
      implementation: "graph": stock TensorFlow ops; "kernel": native ops, which `tf1xent.kernels`
        builds, or `KernelsError`; "auto": those where they are there, but "graph" inside a
        tf.function, which XLA may compile later. Default: what the environment variable
        TF1XENT_IMPLEMENTATION says, or "graph".

    Returns:
      `Tensor` of `labels`' shape and `logits`' dtype: the losses, in nats.

    **Derivatives**: in the logits, of every order, by closed forms: ``p - onehot(y)``, then
      ``p (v - <p, v>)`` for a Hessian-vector product, each about as costly as the loss.

    Raises:
      ValueError: (graph build) scalar logits, or labels whose shape is not that of the logits
        without their last axis.
      TypeError: (graph build) labels that are not int32 or int64, logits that are not floating
        point.
      tf.errors.InvalidArgumentError: (session run) a label outside `[0, num_classes)` on a CPU; on
        a GPU and under XLA the example's loss and derivatives are NaN. Shapes that only the run
        could tell and that do not fit.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     logits = tf.constant([[50.0, 0.0, 0.0]])
    ...     loss = tf1xent.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=logits)
    ...     (hessian,) = tf.hessians(tf.reduce_sum(loss), logits)
    ...     value, second = session.run([loss, hessian])
    >>> print("{:.6e} {:.6e}".format(value[0], second[0, 0, 0, 0]))
    3.857500e-22 3.857500e-22

    Source: the formula and its accuracy are derived in `tf1xent._math.softmax`.
    """
    return sparse_implementation(labels, logits, name, implementation=implementation)


@_tf.as_drop_in("softmax_cross_entropy_with_logits")
def softmax_cross_entropy_with_logits(
    labels: Optional[Labels] = None,
    logits: Optional[Logits] = None,
    dim: int = -1,
    name: Name = None,
    axis: Optional[int] = None,
    *,
    implementation: Optional[str] = None,
) -> Tensor:
    """Cross-entropy of label distributions and the softmax of logits; labels are constants.

    As `softmax_cross_entropy_with_logits_v2`, but no gradient flows into `labels`.

    Args:
      labels: `Tensor` of any numeric dtype, cast to the logits'; of `logits`' shape, or
        `[1, num_classes]` for all examples.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[batch_size, num_classes]` or of any
        other rank with a class axis.
      dim: the class axis.
      name: name of the operation.
      axis: new name of `dim`; TensorFlow's function refuses it beside a `dim`.
      implementation: as for `sparse_softmax_cross_entropy_with_logits`.

    Returns:
      `Tensor` of `logits`' dtype and `logits`' shape without the class axis: the losses, in nats.

    **Derivatives**: in the logits, of every order; none in the labels.

    Raises:
      ValueError: (graph build) both `dim` and `axis`, an axis that `logits` lacks, shapes that do
        not broadcast.
      TypeError: (graph build) logits that are not floating point.
      tf.errors.InvalidArgumentError: (session run) shapes that do not broadcast.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     loss = tf1xent.nn.softmax_cross_entropy_with_logits(
    ...         labels=[[0.25, 0.75]], logits=tf.constant([[0.0, 0.0]])
    ...     )
    ...     print(session.run(loss).round(6))
    [0.693147]

    Source: the formula and its accuracy are derived in `tf1xent._math.softmax`.
    """
    return dense_stopped_implementation(
        labels, logits, dim, name, axis, implementation=implementation
    )


@_tf.as_drop_in(_DENSE)
def softmax_cross_entropy_with_logits_v2(
    labels: Labels,
    logits: Logits,
    axis: Optional[int] = None,
    name: Name = None,
    dim: Optional[int] = None,
    *,
    implementation: Optional[str] = None,
) -> Tensor:
    """Cross-entropy of label distributions and the softmax of logits, one loss per example.

    For one example with logits x, labels l and S = sum_j l_j::

        loss = sum_j l_j (log(sum_i exp(x_i)) - x_j)

    computed so that its relative error stays at a few roundings. The labels need not sum to 1: the
    gradient in the logits is then the exact ``S p - l``, where TensorFlow's op gives ``p - l``.

    Args:
      labels: `Tensor` of any numeric dtype, cast to the logits'; of `logits`' shape, or one that
        broadcasts to it once all axes but the class axis are made one, such as `[1, num_classes]`.
      logits: `Tensor` of half, bfloat16, float32 or float64; `[batch_size, num_classes]` or of any
        other rank with a class axis. half and bfloat16 are computed in float32. A logit of -inf
        leaves its class out where its label is 0.
      axis: the class axis, also negative; default -1.
      name: name of the operation.
      dim: deprecated name of `axis`.
      implementation: as for `sparse_softmax_cross_entropy_with_logits`.

    Returns:
      `Tensor` of `logits`' dtype and `logits`' shape without the class axis: the losses, in nats.

    **Derivatives**: in logits and labels, of every order, also mixed, by closed forms: ``S p - l``;
      ``t + max(x) - x_j`` in label j, and 0 for a class that is masked and has no label;
      ``p - e_j`` mixed.

    Raises:
      ValueError: (graph build) both `dim` and `axis`, an axis that `logits` lacks, shapes that do
        not broadcast.
      TypeError: (graph build) logits that are not floating point.
      tf.errors.InvalidArgumentError: (session run) shapes that do not broadcast.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     labels, logits = tf.constant([[0.25, 0.75]]), tf.constant([[0.0, 0.0]])
    ...     loss = tf1xent.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)
    ...     (in_labels,) = tf.gradients(loss, labels)
    ...     (mixed,) = tf.gradients(in_labels[:, 0], logits)
    ...     print(session.run(mixed))
    [[-0.5  0.5]]

    Source: the formula and its accuracy are derived in `tf1xent._math.softmax`.
    """
    return dense_implementation(labels, logits, axis, name, dim, implementation=implementation)


@_tf.taken_whole("sparse_softmax_cross_entropy_with_logits_v2")
def sparse_implementation(
    labels: Labels, logits: Logits, name: Name = None, *, implementation: Optional[str] = None
) -> Tensor:
    """What `sparse_softmax_cross_entropy_with_logits` computes, under any signature."""
    kernels = uses_kernels(_SPARSE, implementation)
    with tf.name_scope(name, _tf.SPARSE_OP, [labels, logits]):
        labels = _tf.convert_to_tensor(labels)
        logits = _tf.convert_to_tensor(logits)
        shape = batch.check_sparse(_SPARSE, labels, logits)
        op_name = name or _tf.SPARSE_OP
        is_matrix = logits.shape.ndims == 2
        # The result has the name of TensorFlow's last op, so that fetches by name work: the fused
        # op, a reshape, or the cast back to half. TensorFlow does not cast bfloat16; this does.
        result_name = op_name if is_matrix else "Reshape_2"
        if logits.dtype == tf.float16:
            result_name = "Cast_1"
        cast_takes_name = is_half(logits) and result_name == op_name
        loss_name = "rows_loss" if cast_takes_name else op_name
        with tf.name_scope("rows"):
            matrix = logits if kernels else batch.as_precise(logits)
            matrix, vector = batch.sparse_rows(matrix, labels)
            if not kernels:
                sizes = Sizes(matrix)
                vector, invalid_value = checked_labels(matrix, vector, sizes)
        if kernels:  # they check the labels themselves
            loss = softmax_kernels.sparse_loss(matrix, vector, name=loss_name)
        else:
            checked = {"invalid_value": invalid_value, "sizes": sizes}
            loss = softmax.sparse_loss(matrix, vector, **checked, name=loss_name)
        if not is_matrix:
            shape_name = None if is_half(logits) else result_name
            loss = tf.reshape(loss, tf.shape(labels), name=shape_name)
        if is_half(logits):
            loss = tf.cast(loss, logits.dtype, name=result_name)
        return _tf.tied_to_function_inputs(_tf.set_static_shape(loss, shape))


def dense_stopped_implementation(
    labels: Labels,
    logits: Logits,
    dim: int = -1,
    name: Name = None,
    axis: Optional[int] = None,
    *,
    implementation: Optional[str] = None,
) -> Tensor:
    """What `softmax_cross_entropy_with_logits` computes, under any signature."""
    axis = _tf.lookup_deprecated_axis(axis, dim)
    with tf.name_scope(name, "softmax_cross_entropy_with_logits_sg", [logits, labels]) as scope:
        labels = tf.stop_gradient(labels, name="labels_stop_gradient")
    return dense_implementation(
        labels=labels,
        logits=logits,
        axis=axis,
        name=scope,
        implementation=implementation,
        fixed_labels=True,
    )


@_tf.taken_whole(
    "softmax_cross_entropy_with_logits_v2_helper", closed_over=("implementation", "fixed_labels")
)
def dense_implementation(
    labels: Labels,
    logits: Logits,
    axis: Optional[int] = None,
    name: Name = None,
    dim: Optional[int] = None,
    *,
    implementation: Optional[str] = None,
    fixed_labels: bool = False,
) -> Tensor:
    """What `softmax_cross_entropy_with_logits_v2` computes, under any signature.

    With `fixed_labels` the gradient in the labels is not built.
    """
    kernels = uses_kernels(_DENSE, implementation)
    axis = _tf.lookup_deprecated_axis(axis, dim)
    axis = -1 if axis is None else axis
    with tf.name_scope(name, "softmax_cross_entropy_with_logits", [logits, labels]) as scope:
        logits = _tf.convert_to_tensor(logits, name="logits")
        labels = _tf.convert_to_tensor(labels, name="labels")
        batch.check_logits_dtype(_DENSE, labels, logits)
        shape = batch.shape_without_axis(_DENSE, logits, axis, labels, soft_labels=True)
        given = labels, logits, axis
        precise = logits if kernels else batch.as_precise(logits)
        labels = tf.cast(labels, precise.dtype)
        with tf.name_scope("rows"):
            precise, labels = batch.axis_last(precise, axis), batch.axis_last(labels, axis)
            matrix, labels = batch.as_matrix(precise), batch.as_matrix(labels)
            matrix, labels = batch.broadcast(_DENSE, matrix, labels, given)
            matrix, labels = (batch.with_a_class(m, refuses_nothing=True) for m in (matrix, labels))
        # TensorFlow names its fused op like the scope itself.
        graph_loss = softmax.dense_loss_of_logits if fixed_labels else softmax.dense_loss
        dense_loss = softmax_kernels.dense_loss if kernels else graph_loss
        loss = dense_loss(matrix, labels, name=scope)
        if precise.shape.ndims == 2 and precise.shape.as_list()[1]:
            loss = tf.identity(loss, name="Reshape_2")
        else:
            loss = tf.reshape(loss, tf.shape(precise)[:-1], name="Reshape_2")
        if is_half(logits):
            loss = tf.cast(loss, logits.dtype, name="Cast_2")
        return _tf.tied_to_function_inputs(_tf.set_static_shape(loss, shape))
