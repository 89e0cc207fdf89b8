"""The reduced losses under the names of tf.losses, with options."""

from typing import Any, Optional

from tf1xent import _tf
from tf1xent._loss import objective
from tf1xent._tf import tf
from tf1xent.losses.reduction import Reduction, reduced

__all__ = ["softmax_cross_entropy", "sparse_softmax_cross_entropy"]


@_tf.taken_whole("sparse_softmax_cross_entropy")
def sparse_softmax_cross_entropy(
    labels: Any,
    logits: Any,
    weights: Any = 1.0,
    scope: Optional[str] = None,
    loss_collection: Optional[str] = tf.GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
    *,
    mask: Any = None,
    ignore_label: Optional[int] = None,
    class_weights: Any = None,
    label_smoothing: Any = 0.0,
    class_mask: Any = None,
    z_loss: Any = 0.0,
    temperature: Any = 1.0,
    focal_gamma: Any = 0.0,
    softcap: Any = None,
    axis: int = -1,
    invalid_labels: Optional[str] = None,
    implementation: Optional[str] = None,
) -> Any:
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
      mask: as in `tf1xent.nn.masked_sparse_softmax_cross_entropy_with_logits`, like all below.
      ignore_label: an integer; rows with this label do not count.
      class_weights: `[num_classes]`, at least 0.
      label_smoothing: in [0, 1).
      class_mask: bool, False leaves a class out.
      z_loss: factor of z^2.
      temperature: above 0.
      focal_gamma: at least 0.
      softcap: above 0.
      axis: the class axis of the logits.
      invalid_labels: None, "raise", "nan" or "ignore".
      implementation: "graph", "kernel" or "auto", as in
        `tf1xent.nn.sparse_softmax_cross_entropy_with_logits`.

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
        labels,
        logits,
        weights,
        scope,
        loss_collection,
        reduction,
        mask=mask,
        ignore_label=ignore_label,
        class_weights=class_weights,
        label_smoothing=label_smoothing,
        class_mask=class_mask,
        z_loss=z_loss,
        temperature=temperature,
        focal_gamma=focal_gamma,
        softcap=softcap,
        axis=axis,
        invalid_labels=invalid_labels,
        implementation=implementation,
    )


@_tf.taken_whole("softmax_cross_entropy")
def softmax_cross_entropy(
    onehot_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: Any = 0,
    scope: Optional[str] = None,
    loss_collection: Optional[str] = tf.GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
    *,
    mask: Any = None,
    skip_missing: bool = False,
    class_weights: Any = None,
    class_mask: Any = None,
    z_loss: Any = 0.0,
    temperature: Any = 1.0,
    focal_gamma: Any = 0.0,
    softcap: Any = None,
    axis: int = -1,
    ignore_label: None = None,
    invalid_labels: None = None,
    implementation: Optional[str] = None,
) -> Any:
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
      mask: as in `tf1xent.nn.masked_softmax_cross_entropy_with_logits`.
      skip_missing: whether rows whose labels are all zero do not count; with a mask it alone
        decides. tf.losses counts them.
      class_weights: `[num_classes]`, at least 0.
      class_mask: bool, False leaves a class out.
      z_loss: factor of z^2.
      temperature: above 0.
      focal_gamma: at least 0.
      softcap: above 0.
      axis: the class axis of labels and logits.
      ignore_label: must be None; it is for integer labels.
      invalid_labels: must be None; it is for integer labels.
      implementation: "graph", "kernel" or "auto", as in
        `tf1xent.nn.sparse_softmax_cross_entropy_with_logits`.

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
        mask=mask,
        ignore_label=ignore_label,
        class_weights=class_weights,
        class_mask=class_mask,
        z_loss=z_loss,
        temperature=temperature,
        focal_gamma=focal_gamma,
        softcap=softcap,
        axis=axis,
        invalid_labels=invalid_labels,
        implementation=implementation,
        skip_missing=skip_missing,
    )


def sparse_implementation(
    labels,
    logits,
    weights=1.0,
    scope=None,
    loss_collection=tf.GraphKeys.LOSSES,
    reduction=Reduction.SUM_BY_NONZERO_WEIGHTS,
    function="sparse_softmax_cross_entropy",
    **options,
):
    """What `sparse_softmax_cross_entropy` computes; `function` is the name in errors."""
    _require(function, labels=labels, logits=logits, weights=weights)
    Reduction.validate(reduction)
    with tf.name_scope(scope, "sparse_softmax_cross_entropy_loss", [logits, labels]):
        if options.get("axis", -1) == -1:
            labels, logits, weights = _without_axes_of_one(labels, logits, weights)
        chosen = objective.Options(weights=weights, **options)
        per_example = objective.sparse(function, labels, logits, chosen, "xentropy")
        loss = reduced(per_example, reduction)
    tf.losses.add_loss(loss, loss_collection)
    return loss


def dense_implementation(
    onehot_labels,
    logits,
    weights=1.0,
    label_smoothing=0,
    scope=None,
    loss_collection=tf.GraphKeys.LOSSES,
    reduction=Reduction.SUM_BY_NONZERO_WEIGHTS,
    function="softmax_cross_entropy",
    **options,
):
    """What `softmax_cross_entropy` computes; `function` is the name in errors."""
    _require(function, onehot_labels=onehot_labels, logits=logits, weights=weights)
    if label_smoothing is None:
        raise TypeError(
            f"{function}: `label_smoothing` must be a number, got None. Give 0 for none."
        )
    Reduction.validate(reduction)
    chosen = objective.Options(weights=weights, label_smoothing=label_smoothing, **options)
    with tf.name_scope(scope, "softmax_cross_entropy_loss", [logits, onehot_labels]):
        logits = _tf.convert_to_tensor(logits)
        labels = tf.stop_gradient(onehot_labels, name="labels_stop_gradient")
        if _tf.is_stock_function(function):  # which takes no labels that broadcast
            logits.shape.assert_is_compatible_with(labels.shape)
        per_example = objective.dense(function, labels, logits, chosen, "xentropy")
        loss = reduced(per_example, reduction)
    tf.losses.add_loss(loss, loss_collection)
    return loss


def _require(function, **arguments):
    for name, value in arguments.items():
        if value is None:
            raise ValueError(f"{function}: `{name}` must not be None. Give a tensor.")


def _without_axes_of_one(labels, logits, weights):
    """Labels `[batch_size, 1]` and weights with an axis of size 1 too many, as in tf.losses."""
    labels, logits = _tf.convert_to_tensor(labels), _tf.convert_to_tensor(logits)
    by_row = None
    if not isinstance(weights, (int, float)):
        weights = tf.convert_to_tensor(weights, preferred_dtype=logits.dtype)
        by_row = weights if _may_end_in_one(weights) else None
    if by_row is not None or _may_end_in_one(labels) or _may_end_in_one(logits):
        labels, logits, by_row = _tf.remove_squeezable_dimensions(labels, logits, by_row)
    return labels, logits, weights if by_row is None else by_row


def _may_end_in_one(tensor):
    shape = tensor.shape
    return shape.ndims is None or (shape.ndims > 0 and shape.as_list()[-1] in (None, 1))
