"""Cross-entropy per example where rows and classes do not count alike."""

from typing import TYPE_CHECKING

from tf1xent import _tf
from tf1xent._loss import objective
from tf1xent._loss.faces import with_options
from tf1xent._loss.options import DenseOptions, SparseOptions
from tf1xent._typing import Labels, Logits, Name, Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "weighted_softmax_cross_entropy_with_logits",
    "weighted_sparse_softmax_cross_entropy_with_logits",
]


@_tf.taken_whole()
@with_options(SparseOptions, before="name", first=("weights", "class_weights"))
def weighted_sparse_softmax_cross_entropy_with_logits(
    labels: Labels,
    logits: Logits,
    *,
    name: Name = None,
    **options: "Unpack[SparseOptions]",
) -> Tensor:
    """Cross-entropy of integer labels with weights for rows and classes; all options combine.

    For integer labels whose classes are not equally frequent, or not equally important.

    The formula and the options are those of `masked_sparse_softmax_cross_entropy_with_logits`;
    with class weights c and no other option::

        loss = weight c_y (log(sum_j exp(x_j)) - x_y)

    Args:
      labels: `Tensor` of int32 or int64, `[d_0, ..., d_{r-1}]`, values in `[0, num_classes)`.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[d_0, ..., d_{r-1}, num_classes]`,
        or with the classes on another `axis`.
      **options: each by its name, as `tf1xent._loss.options.SparseOptions` lists them.
      name: name of the operation.

    Returns:
      `Tensor` of the labels' shape and the logits' dtype: the losses, in nats.

    **Derivatives**: of every order, in logits, weights and class weights.

    Raises:
      ValueError: (graph build) shapes that do not fit, a constant option outside its range.
      TypeError: (graph build) labels that are not int32 or int64, logits that are not floating
        point.
      tf.errors.InvalidArgumentError: (session run) the same, where only the run can tell, and
        labels as `invalid_labels` says.

    Example: two classes, the second one with a weight of 0.25, the first one with 0.57.

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     losses = tf1xent.nn.weighted_sparse_softmax_cross_entropy_with_logits(
    ...         labels=[0, 1], logits=tf.constant([[0.0, 0.0], [1.0, 2.0]]),
    ...         class_weights=[0.57, 0.25],
    ...     )
    ...     print(["{:.6f}".format(loss) for loss in session.run(losses)])
    ['0.395094', '0.078315']

    See also: `masked_sparse_softmax_cross_entropy_with_logits`, the same function, described for
      rows that do not count; `tf1xent.losses.sparse_softmax_cross_entropy` reduces these losses.

    Source: as `masked_sparse_softmax_cross_entropy_with_logits`; class weights as in PyTorch.
    """
    function = "weighted_sparse_softmax_cross_entropy_with_logits"
    return objective.sparse(function, labels, logits, options, name).cast_losses()


@_tf.taken_whole()
@with_options(DenseOptions, before="name", first=("weights", "class_weights"))
def weighted_softmax_cross_entropy_with_logits(
    labels: Labels,
    logits: Logits,
    *,
    name: Name = None,
    **options: "Unpack[DenseOptions]",
) -> Tensor:
    """Cross-entropy of label distributions with weights for rows and classes; all options combine.

    For label distributions whose classes are not equally frequent, or not equally important.

    The formula and the options are those of `masked_sparse_softmax_cross_entropy_with_logits` with
    the distribution l in the place of ``[j = y]``; with class weights c and no other option::

        loss = weight sum_j c_j l_j (log(sum_i exp(x_i)) - x_j)

    A row of labels that are all zero is a row like others here.

    Args:
      labels: `Tensor` of any numeric dtype, cast to the logits'; of the logits' shape, or one that
        broadcasts to it once all axes but the class axis are made one.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[batch_size, num_classes]` or of any
        other rank with a class axis.
      **options: each by its name, as `tf1xent._loss.options.DenseOptions` lists them.
      name: name of the operation.

    Returns:
      `Tensor` of the logits' dtype and the logits' shape without the class axis: the losses, in
      nats.

    **Derivatives**: of every order, also mixed, in logits, labels, weights and class weights.

    Raises:
      ValueError: (graph build) shapes that do not fit, a constant option outside its range, an
        `ignore_label` or a policy for invalid labels.
      TypeError: (graph build) logits that are not floating point.
      tf.errors.InvalidArgumentError: (session run) the same, where only the run can tell.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     losses = tf1xent.nn.weighted_softmax_cross_entropy_with_logits(
    ...         labels=[[0.5, 0.5], [0.0, 1.0]], logits=tf.constant([[0.0, 0.0], [0.0, 0.0]]),
    ...         weights=[2.0, 1.0], class_weights=[1.0, 3.0],
    ...     )
    ...     print(["{:.6f}".format(loss) for loss in session.run(losses)])
    ['2.772589', '2.079442']

    See also: `masked_softmax_cross_entropy_with_logits`, where a row of zeros does not count;
      `tf1xent.losses.softmax_cross_entropy` reduces these losses.

    Source: as `masked_sparse_softmax_cross_entropy_with_logits`; class weights as in PyTorch.
    """
    function = "weighted_softmax_cross_entropy_with_logits"
    return objective.dense(function, labels, logits, options, name).cast_losses()
