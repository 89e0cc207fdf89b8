"""A batch of examples as rows: tensors of any rank become matrices, and what cannot is refused.

Invalid arguments raise at graph construction where they are statically known. Where TensorFlow's
own function refuses the same arguments, its error is raised, in its wording. What is known only at
run time is checked by small ops whose values the result depends on, so that no optimisation drops
them.
"""

from typing import Dict, NamedTuple, NoReturn, Optional, Tuple, Type, Union

from tf1xent import _tf
from tf1xent._math.dtypes import LABEL_DTYPES, LOGITS_DTYPES, is_half, precise_dtype
from tf1xent._math.labels import are_classes, names_a_class, with_as_many_rows
from tf1xent._tf import tf
from tf1xent._typing import DType, Labels, Logits, Operation, Tensor, TensorShape


class Batch(NamedTuple):
    """The examples of one call of a loss.

    Attributes:
      function: the public function that was called; errors name it.
      matrix: [batch_size, num_classes], float32 or float64: logits or probabilities.
      labels: [batch_size] of integers; if they are soft, of `matrix`' shape and dtype.
      soft_labels: whether labels are distributions.
      shape: the static shape of the losses.
      run_shape: their shape in the run, a vector of int32.
      given: logits or probabilities of any rank, as they were given.
      axis: the class axis of `given`.
      all_classes: their number, an integer where it is known, where logits are in shards: then
        `matrix` is empty, and only its dtype counts.
    """

    function: str
    matrix: Tensor
    labels: Tensor
    soft_labels: bool
    shape: TensorShape
    run_shape: Tensor
    given: Tensor
    axis: int = -1
    all_classes: Optional[Union[int, Tensor]] = None

    @property
    def num_classes(self) -> Union[int, Tensor]:
        """The number of classes: an integer where it is known, else a scalar of int32."""
        if self.all_classes is not None:
            return self.all_classes
        known = None if self.matrix.shape.ndims is None else self.matrix.shape.as_list()[1]
        return tf.shape(self.matrix)[1] if known is None else known

    def names_a_class(self, labels: Tensor) -> Tensor:
        """Which of `labels` are in [0, num_classes): [batch_size], bool."""
        if self.all_classes is None:
            return names_a_class(self.matrix, labels)
        return are_classes(labels, tf.cast(self.all_classes, labels.dtype))

    @property
    def dtype(self) -> DType:
        """The dtype of the losses."""
        return self.given.dtype.base_dtype


def of_integer_labels(function: str, labels: Labels, logits: Logits, axis: int) -> Batch:
    """The batch of one integer label per example."""
    labels, logits = _tf.convert_to_tensor(labels), _tf.convert_to_tensor(logits)
    check_logits_dtype(function, labels, logits)
    shape_without_axis(function, logits, axis, labels)
    precise = axis_last(as_precise(logits), axis)
    shape = check_sparse(function, labels, precise, axis)
    matrix, vector = sparse_rows(precise, labels)
    vector = with_as_many_rows(matrix, vector)
    return Batch(function, matrix, vector, False, shape, tf.shape(labels), logits, axis)


def of_distributions(
    function: str, labels: Labels, scores: Logits, axis: int, argument: str = "logits"
) -> Batch:
    """The batch of one distribution per example; `scores` are what the function calls `argument`.

    Labels broadcast to the scores' shape once all axes but the class axis are made one.
    """
    scores = _tf.convert_to_tensor(scores)
    check_logits_dtype(function, scores, scores, argument)
    shape = shape_without_axis(function, scores, axis)
    precise = axis_last(as_precise(scores), axis)
    labels = _tf.convert_to_tensor(labels, name="labels", preferred_dtype=precise.dtype)
    _check_class_axis(function, labels, scores, axis, soft_labels=True)
    distributions = as_matrix(axis_last(tf.cast(labels, precise.dtype), axis))
    matrix, distributions = broadcast(
        function, as_matrix(precise), distributions, (labels, scores, axis)
    )
    matrix, distributions = with_a_class(matrix), with_a_class(distributions)
    run_shape = tf.shape(precise)[:-1]
    return Batch(function, matrix, distributions, True, shape, run_shape, scores, axis)


def in_shards(
    function: str, labels: Tensor, shape: TensorShape, run_shape: Tensor, given: Tensor
) -> Batch:
    """The batch of labels, [batch_size], whose logits are nowhere in one place.

    `given` is of the dtype of the logits.
    """
    nothing = tf.zeros([0, 0], precise_dtype(given))
    return Batch(function, nothing, labels, False, shape, run_shape, given)


def logits_of_softmax(function: str, probabilities: Tensor, axis: int) -> Tensor:
    """The logits of the tf.nn.softmax over the last axis whose output `probabilities` are.

    Identities between them are passed over. An op with a gradient of a program's own, or with
    control inputs, which may be checks, is neither an identity nor a softmax here.
    """
    message = (
        f"{function}: `probabilities` must be the output of tf.nn.softmax over the last axis with "
        "`look_through_softmax`, got "
    )
    fix = "Give the logits to weighted_softmax_cross_entropy_with_logits, or leave it out."
    if tf.executing_eagerly():
        raise ValueError(f"{message}an eager tensor, which keeps no op. {fix}")
    tensor = _tf.convert_to_tensor(probabilities)
    rank = tensor.shape.ndims
    if axis != -1 and axis != (rank and rank - 1):
        raise ValueError(f"{message}the class axis {axis}. {fix}")
    while _is_plain(tensor.op) and tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    if not (_is_plain(tensor.op) and tensor.op.type == "Softmax"):
        raise ValueError(f"{message}that of the op {tensor.op.name} ({tensor.op.type}). {fix}")
    return tensor.op.inputs[0]


def _is_plain(op: Operation) -> bool:
    return not op.control_inputs and _tf.gradient_attribute(op) is None


# --- Checks -------------------------------------------------------------------------------------


def _refuse(
    function: str,
    tensors: Dict[str, Tensor],
    error: Type[Exception],
    message: str,
    axis: int = -1,
) -> NoReturn:
    if _tf.is_stock_function(function):
        _tf.raise_as_stock(function, tensors, axis)
    raise error(f"{function}: {message}")


def check_logits_dtype(
    function: str, labels: Tensor, logits: Tensor, argument: str = "logits"
) -> None:
    """Logits, or what the function calls `argument`, are floating point."""
    if logits.dtype.base_dtype not in LOGITS_DTYPES:
        _refuse(
            function,
            {"labels": labels, "logits": logits},
            TypeError,
            f"`{argument}` must be half, bfloat16, float32 or float64, got {logits.dtype.name}. "
            f"Cast them: tf.cast({argument}, tf.float32).",
        )


def check_sparse(function: str, labels: Tensor, logits: Tensor, axis: int = -1) -> TensorShape:
    """Dtypes and static shapes of integer labels against logits; returns the merged shape.

    The class axis is the last of `logits`; `axis` is which it was.
    """
    tensors = {"labels": labels, "logits": logits}
    check_logits_dtype(function, labels, logits)
    if labels.dtype.base_dtype not in LABEL_DTYPES:
        _refuse(
            function,
            tensors,
            TypeError,
            f"`labels` must be int32 or int64, got {labels.dtype.name}. "
            "Cast them: tf.cast(labels, tf.int64).",
        )
    if logits.shape.ndims == 0:
        _refuse(function, tensors, ValueError, "`logits` must have a class axis, got a scalar.")
    rows = logits.shape[:-1]
    if not labels.shape.is_compatible_with(rows):
        _refuse(
            function,
            tensors,
            ValueError,
            f"`labels` must have the shape of `logits` without its class axis, {rows}, got "
            f"{labels.shape}. For one distribution per row use softmax_cross_entropy_with_logits.",
            axis=axis,
        )
    return labels.shape.merge_with(rows)


def shape_without_axis(
    function: str,
    logits: Tensor,
    axis: int,
    labels: Optional[Tensor] = None,
    soft_labels: bool = False,
) -> TensorShape:
    """The static shape of `logits` without its class axis.

    With `labels` a scalar is refused first: `logits`, and labels too if they are soft.
    """
    if labels is not None:
        _check_class_axis(function, labels, logits, axis, soft_labels)
    rank = logits.shape.ndims
    if rank is None:
        return tf.TensorShape(None)
    if not -rank <= axis < rank:
        _refuse(
            function,
            {"labels": logits if labels is None else labels, "logits": logits},
            ValueError,
            f"`axis` must be one of the {rank} axes of `logits`, got {axis}. The class axis is the "
            "last by default.",
            axis=axis,
        )
    sizes = logits.shape.as_list()
    del sizes[axis]
    return tf.TensorShape(sizes)


def _check_class_axis(
    function: str, labels: Tensor, logits: Tensor, axis: int, soft_labels: bool
) -> None:
    """The logits, and soft labels too, have a class axis."""
    if logits.shape.ndims == 0 or (soft_labels and labels.shape.ndims == 0):
        _refuse(
            function,
            {"labels": labels, "logits": logits},
            ValueError,
            f"`{'labels' if logits.shape.ndims else 'logits'}` must have a class axis, got a "
            "scalar. Give a vector for one example.",
            axis=axis,
        )


def _broadcast_static_shape(
    function: str, labels: Tensor, logits: Tensor, given: Tuple[Tensor, Tensor, int]
) -> TensorShape:
    """The static shape to which both matrices broadcast.

    `given` is what an error names: labels and logits before they became matrices, and the axis.
    """
    try:
        return tf.broadcast_static_shape(logits.shape, labels.shape)
    except ValueError:
        labels, logits, axis = given
        _refuse(
            function,
            {"labels": labels, "logits": logits},
            ValueError,
            f"`labels` must broadcast to the shape of `logits`, {logits.shape}, got "
            f"{labels.shape}. Give one label distribution per row of logits, or one for all.",
            axis=axis,
        )


# --- Shapes -------------------------------------------------------------------------------------


def as_precise(logits: Tensor) -> Tensor:
    """`logits`; half and bfloat16 as float32."""
    return tf.cast(logits, tf.float32) if is_half(logits) else logits


def sparse_rows(logits: Tensor, labels: Tensor) -> Tuple[Tensor, Tensor]:
    """`logits` as a matrix and `labels` as a vector, failing in the run if they do not fit."""
    if logits.shape.ndims == 2:
        return logits, labels
    if not (labels.shape.is_fully_defined() and logits.shape[:-1].is_fully_defined()):
        same = tf.assert_equal(tf.shape(labels), tf.shape(logits)[:-1])
        with tf.control_dependencies([same]):
            labels = tf.identity(labels)
    return as_matrix(logits), tf.reshape(labels, [-1])


def axis_last(tensor: Tensor, axis: int) -> Tensor:
    """`tensor` with `axis` moved to the end, and the order of the others kept."""
    known_rank = tensor.shape.ndims
    if axis in (-1, known_rank and known_rank - 1):
        return tensor
    if known_rank is not None:
        others = [position for position in range(known_rank) if position != axis % known_rank]
        return tf.transpose(tensor, others + [axis % known_rank])
    rank = tf.rank(tensor)
    position = axis if axis >= 0 else rank + axis
    around = [tf.range(position), tf.range(position + 1, rank)]
    return tf.transpose(tensor, tf.concat(around + [[position]], axis=0))


def broadcast(
    function: str, logits: Tensor, labels: Tensor, given: Tuple[Tensor, Tensor, int]
) -> Tuple[Tensor, Tensor]:
    """Both as matrices of one shape; `given` are the tensors that an error names, and the axis.

    Logits are never broadcast in the run: their losses would not fit the shape of the result.
    """
    if logits.shape.is_fully_defined() and logits.shape.as_list() == labels.shape.as_list():
        return logits, labels
    static = _broadcast_static_shape(function, labels, logits, given)
    labels = _tf.broadcast_to(labels, tf.shape(logits))
    return logits, _tf.set_static_shape(labels, static)


def with_a_class(matrix: Tensor, refuses_nothing: bool = False) -> Tensor:
    """`matrix`; if it has no classes, with one of zeros, so that losses are the empty sums, 0.

    With `refuses_nothing` a batch of no classes and no rows gets a row too, whose loss does not fit
    the result's shape: like stock's function, ours then fails in the run.
    """
    num_classes = matrix.shape.as_list()[1] if matrix.shape.ndims is not None else None
    if num_classes:
        return matrix
    is_empty = tf.cast(tf.equal(tf.shape(matrix), 0), tf.int32)
    row = is_empty[0] * is_empty[1] if refuses_nothing else 0
    padded = tf.pad(matrix, [[0, row], [0, is_empty[1]]])  # free where nothing is missing
    return _tf.set_static_shape(padded, [None, 1 if num_classes == 0 else None])


def as_matrix(tensor: Tensor) -> Tensor:
    """`tensor` with all axes but the last made one, [batch_size, num_classes]."""
    if tensor.shape.ndims == 2:
        return tensor
    known = None if tensor.shape.ndims is None else tensor.shape.as_list()[-1]
    if known:
        return tf.reshape(tensor, [-1, known])
    num_classes = tf.shape(tensor)[-1]
    size = tf.reduce_prod(tf.shape(tensor)[:-1])
    matrix = tf.reshape(tensor, tf.stack([size, num_classes]))
    if tensor.shape.ndims is not None:
        matrix.set_shape([tensor.shape[:-1].num_elements(), tensor.shape.as_list()[-1]])
    return matrix
