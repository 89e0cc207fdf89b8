"""The reduced losses under the names of tf.losses, with options."""

from typing import TYPE_CHECKING, Any, Tuple

from tf1xent import _tf
from tf1xent._loss import objective
from tf1xent._loss.faces import with_options
from tf1xent._loss.options import DenseLossOptions, SparseLossOptions
from tf1xent._tf import tf
from tf1xent._typing import Labels, Logits, Name, ReductionName, Tensor, TensorLike
from tf1xent.losses.reduction import Reduction, loss_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["softmax_cross_entropy", "sparse_softmax_cross_entropy"]


@_tf.taken_whole("sparse_softmax_cross_entropy")
@with_options(SparseLossOptions)
def sparse_softmax_cross_entropy(
    labels: Labels,
    logits: Logits,
    weights: TensorLike = 1.0,
    scope: Name = None,
    loss_collection: Name = tf.GraphKeys.LOSSES,
    reduction: ReductionName = Reduction.SUM_BY_NONZERO_WEIGHTS,
    **options: "Unpack[SparseLossOptions]",
) -> Tensor:
    """Cross-entropy of integer labels, reduced; takes all that tf.losses' function takes.

    ``loss = sum_i weight_i loss_i / denominator`` over the rows that count, with the losses by row
    of `tf1xent.nn.masked_sparse_softmax_cross_entropy_with_logits` and the denominator that
    `reduction` names. float64 stays float64, where tf.losses computes in float32.

    Args:
      labels: `Tensor` of int32 or int64, `[d_0, ..., d_{r-1}]`; a last axis of size 1 too many is
        dropped, as by tf.losses.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[d_0, ..., d_{r-1}, num_classes]`.
      weights: a number for all rows, or by row: of the labels' rank, each size theirs or 1.
      scope: name scope of the operations.
      loss_collection: graph collection that the loss is added to; None: none.
      reduction: one of `tf1xent.losses.Reduction` or tf.losses.Reduction.
      **options: each by its name, as `tf1xent._loss.options.SparseLossOptions` lists them.

    Returns:
      `Tensor` of the logits' dtype, in nats: a scalar, or of the labels' shape for
      `Reduction.NONE`. With nothing to count it is 0.

    **Derivatives**: of every order, in logits, weights and class weights; also through the
      denominator where that depends on them.

    Raises:
      ValueError: (graph build) labels, logits or weights that are None, an unknown reduction,
        shapes that do not fit, a constant option outside its range.
      TypeError: (graph build) labels that are not int32 or int64, logits that are not floating
        point.
      tf.errors.InvalidArgumentError: (session run) the same, where only the run can tell, and
        labels as `invalid_labels` says.

    Example: PyTorch's mean, which divides by the class weights of the labels that count.

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     loss = tf1xent.losses.sparse_softmax_cross_entropy(
    ...         labels=[0, 1, -100], logits=tf.constant([[1.0, 0.0], [1.0, 0.0], [5.0, 0.0]]),
    ...         ignore_label=-100, class_weights=[1.0, 3.0],
    ...         reduction=tf1xent.losses.Reduction.SUM_BY_CLASS_WEIGHTS,
    ...     )
    ...     print("{:.5f}".format(session.run(loss)))
    1.06326

    Source: the formula and the options are written down in `tf1xent._loss.objective`.
    """
    return sparse_implementation(
        labels, logits, weights, scope, loss_collection, reduction, **options
    )


@_tf.taken_whole("softmax_cross_entropy")
@with_options(DenseLossOptions)
def softmax_cross_entropy(
    onehot_labels: Labels,
    logits: Logits,
    weights: TensorLike = 1.0,
    label_smoothing: TensorLike = 0,
    scope: Name = None,
    loss_collection: Name = tf.GraphKeys.LOSSES,
    reduction: ReductionName = Reduction.SUM_BY_NONZERO_WEIGHTS,
    **options: "Unpack[DenseLossOptions]",
) -> Tensor:
    """Cross-entropy of label distributions, reduced; takes all that tf.losses' function takes.

    ``loss = sum_i weight_i loss_i / denominator`` over the rows that count, with the losses by row
    of `tf1xent.nn.weighted_softmax_cross_entropy_with_logits` and the denominator that `reduction`
    names. float64 stays float64, where tf.losses computes in float32.

    Args:
      onehot_labels: `Tensor` of any numeric dtype and the logits' shape: one-hot or any
        distribution; constants, as in tf.losses: no gradient flows into them.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[batch_size, num_classes]` or of any
        other rank with a class axis.
      weights: a number for all rows, or by row: of the losses' rank, each size theirs or 1.
      label_smoothing: in [0, 1).
      scope: name scope of the operations.
      loss_collection: graph collection that the loss is added to; None: none.
      reduction: one of `tf1xent.losses.Reduction` or tf.losses.Reduction.
      **options: each by its name, as `tf1xent._loss.options.DenseLossOptions` lists them.

    Returns:
      `Tensor` of the logits' dtype, in nats: a scalar, or of the logits' shape without the class
      axis for `Reduction.NONE`. With nothing to count it is 0.

    **Derivatives**: of every order, in logits, weights and class weights; none in the labels.

    Raises:
      ValueError: (graph build) labels, logits or weights that are None, an unknown reduction,
        shapes that do not fit, a constant option outside its range.
      TypeError: (graph build) logits that are not floating point, a label smoothing of None.
      tf.errors.InvalidArgumentError: (session run) the same, where only the run can tell.

    Example: the mean over the rows that have a label; the second one has none.

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     loss = tf1xent.losses.softmax_cross_entropy(
    ...         [[0, 1, 0], [0, 0, 0], [1, 0, 0]],
    ...         logits=tf.constant([[1.0, 2.0, 0.0], [5.0, 1.0, 2.0], [0.0, 3.0, 0.0]]),
    ...         skip_missing=True,
    ...     )
    ...     print("{:.5f}".format(session.run(loss)))
    1.75126

    Source: the formula and the options are written down in `tf1xent._loss.objective`.
    """
    return dense_implementation(
        onehot_labels,
        logits,
        weights,
        label_smoothing,
        scope,
        loss_collection,
        reduction,
        **options,
    )


def sparse_implementation(
    labels: Labels,
    logits: Logits,
    weights: TensorLike = 1.0,
    scope: Name = None,
    loss_collection: Name = tf.GraphKeys.LOSSES,
    reduction: ReductionName = Reduction.SUM_BY_NONZERO_WEIGHTS,
    function: str = "sparse_softmax_cross_entropy",
    **options: Any,
) -> Tensor:
    """What `sparse_softmax_cross_entropy` computes; `function` is the name in errors."""
    _require(function, labels=labels, logits=logits, weights=weights)

    def per_example() -> objective.PerExample:
        rows = labels, logits, weights
        if options.get("axis", -1) == -1:
            rows = _without_axes_of_one(*rows)
        chosen = dict(options, weights=rows[2])
        return objective.sparse(function, rows[0], rows[1], chosen, "xentropy")

    name = "sparse_softmax_cross_entropy_loss"
    return loss_of(per_example, reduction, scope, name, [logits, labels], loss_collection)


def dense_implementation(
    onehot_labels: Labels,
    logits: Logits,
    weights: TensorLike = 1.0,
    label_smoothing: TensorLike = 0,
    scope: Name = None,
    loss_collection: Name = tf.GraphKeys.LOSSES,
    reduction: ReductionName = Reduction.SUM_BY_NONZERO_WEIGHTS,
    function: str = "softmax_cross_entropy",
    **options: Any,
) -> Tensor:
    """What `softmax_cross_entropy` computes; `function` is the name in errors."""
    _require(function, onehot_labels=onehot_labels, logits=logits, weights=weights)
    if label_smoothing is None:
        raise TypeError(
            f"{function}: `label_smoothing` must be a number, got None. Give 0 for none."
        )

    def per_example() -> objective.PerExample:
        scores = _tf.convert_to_tensor(logits)
        labels = tf.stop_gradient(onehot_labels, name="labels_stop_gradient")
        if _tf.is_stock_function(function):  # which takes no labels that broadcast
            scores.shape.assert_is_compatible_with(labels.shape)
        chosen = dict(options, weights=weights, label_smoothing=label_smoothing)
        return objective.dense(function, labels, scores, chosen, "xentropy")

    name = "softmax_cross_entropy_loss"
    return loss_of(per_example, reduction, scope, name, [logits, onehot_labels], loss_collection)


def _require(function: str, **arguments: Any) -> None:
    for name, value in arguments.items():
        if value is None:
            raise ValueError(f"{function}: `{name}` must not be None. Give a tensor.")


def _without_axes_of_one(
    labels: Labels, logits: Logits, weights: TensorLike
) -> Tuple[Tensor, Tensor, TensorLike]:
    """Labels `[batch_size, 1]` and weights with an axis of size 1 too many, as in tf.losses."""
    labels, logits = _tf.convert_to_tensor(labels), _tf.convert_to_tensor(logits)
    by_row = None
    if not isinstance(weights, (int, float)):
        weights = tf.convert_to_tensor(weights, preferred_dtype=logits.dtype)
        by_row = weights if _may_end_in_one(weights) else None
    if by_row is not None or _may_end_in_one(labels) or _may_end_in_one(logits):
        labels, logits, by_row = _tf.remove_squeezable_dimensions(labels, logits, by_row)
    return labels, logits, weights if by_row is None else by_row


def _may_end_in_one(tensor: Tensor) -> bool:
    shape = tensor.shape
    return shape.ndims is None or (shape.ndims > 0 and shape.as_list()[-1] in (None, 1))
