"""Cross-entropy per example where not every example counts."""

from typing import TYPE_CHECKING

from tf1xent import _tf
from tf1xent._loss import objective
from tf1xent._loss.faces import with_options
from tf1xent._loss.options import DenseOptions, SparseOptions
from tf1xent._typing import Labels, Logits, Name, Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "masked_softmax_cross_entropy_with_logits",
    "masked_sparse_softmax_cross_entropy_with_logits",
]


@_tf.taken_whole()
@with_options(SparseOptions, before="name")
def masked_sparse_softmax_cross_entropy_with_logits(
    labels: Labels,
    logits: Logits,
    *,
    name: Name = None,
    **options: "Unpack[SparseOptions]",
) -> Tensor:
    """Cross-entropy of integer labels, 0 for the rows that do not count; all options combine.

    For integer labels of which some must not count: padding, pixels without a label.

    For one row with logits a, label y, class weights c and C classes::

        x_j  = softcap tanh(a_j / softcap) / temperature;  -inf for a class left out
        z    = log sum_j exp(x_j),  p_j = exp(x_j - z)
        q_j  = (1 - label_smoothing) [j = y] + label_smoothing / K,  K classes left in
        loss = weight (sum_j c_j q_j (1 - p_j)^focal_gamma (z - x_j) + z_loss z^2)

    A row that does not count has loss 0, smoothing and z_loss included, and nothing that stands in
    it, be it NaN, takes part in any value or derivative. By default no option is in force: the
    values are those of `tf1xent.nn.sparse_softmax_cross_entropy_with_logits`.

    Args:
      labels: `Tensor` of int32 or int64, `[d_0, ..., d_{r-1}]`, values in `[0, num_classes)`.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[d_0, ..., d_{r-1}, num_classes]`,
        or with the classes on another `axis`. half and bfloat16 are computed in float32.
      **options: each by its name, as `tf1xent._loss.options.SparseOptions` lists them.
      name: name of the operation.

    Returns:
      `Tensor` of the labels' shape and the logits' dtype: the losses, in nats.

    **Derivatives**: of every order, in logits, weights and class weights, by closed forms of each
      term; in `label_smoothing`, `z_loss`, `temperature`, `focal_gamma` and `softcap` where these
      are tensors or variables, whatever their value.

    Raises:
      ValueError: (graph build) shapes that do not fit, a constant option outside its range, no
        class left in.
      TypeError: (graph build) labels that are not int32 or int64, logits that are not floating
        point, an `ignore_label` of other numbers than integers.
      tf.errors.InvalidArgumentError: (session run) the same, where only the run can tell, and
        labels as `invalid_labels` says.

    Example: labels for every token of two sentences, the second one shorter.

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     logits = tf.constant([[[0.0, 0, 0], [3, 0, 0]], [[0, 0, 0], [float("nan"), 0, 0]]])
    ...     losses = tf1xent.nn.masked_sparse_softmax_cross_entropy_with_logits(
    ...         labels=[[2, 0], [1, -1]], logits=logits, ignore_label=-1
    ...     )
    ...     print([["{:.4f}".format(loss) for loss in row] for row in session.run(losses)])
    [['1.0986', '0.0949'], ['1.0986', '0.0000']]

    See also: `weighted_sparse_softmax_cross_entropy_with_logits` is the same function, described
      for weights; `tf1xent.losses.sparse_softmax_cross_entropy` reduces these losses.

    Source: smoothing, Szegedy et al. 2016 (arXiv 1512.00567); focal factor, Lin et al. 2017
      (arXiv 1708.02002); z_loss and softcap as in PaLM (arXiv 2204.02311) and Gemma 2
      (arXiv 2408.00118). How they combine is written down in `tf1xent._loss.objective`.
    """
    function = "masked_sparse_softmax_cross_entropy_with_logits"
    return objective.sparse(function, labels, logits, options, name).cast_losses()


@_tf.taken_whole()
@with_options(DenseOptions, before="name")
def masked_softmax_cross_entropy_with_logits(
    labels: Labels,
    logits: Logits,
    *,
    name: Name = None,
    **options: "Unpack[DenseOptions]",
) -> Tensor:
    """Cross-entropy of label distributions, 0 for rows without a label; all options combine.

    For label distributions of which some are missing: their rows are all zero, or a mask says so.

    The formula is that of `masked_sparse_softmax_cross_entropy_with_logits` with the distribution l
    in the place of ``[j = y]``. It need not sum to 1. By default the rows whose labels are all zero
    are missing and do not count; with a `mask` it alone decides.

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
        `ignore_label` or a policy for invalid labels, no class left in.
      TypeError: (graph build) logits that are not floating point.
      tf.errors.InvalidArgumentError: (session run) the same, where only the run can tell.

    Example: the second row has no label.

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     labels = tf.constant([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    ...     logits = tf.constant([[1.0, 2.0, 0.0], [5.0, 1.0, 2.0], [0.0, 3.0, 0.0]])
    ...     losses = tf1xent.nn.masked_softmax_cross_entropy_with_logits(labels, logits)
    ...     print(["{:.4f}".format(loss) for loss in session.run(losses)])
    ['0.4076', '0.0000', '3.0949']

    See also: `weighted_softmax_cross_entropy_with_logits`, where a row of zeros is a row like
      others; `tf1xent.losses.softmax_cross_entropy` reduces these losses.

    Source: as `masked_sparse_softmax_cross_entropy_with_logits`.
    """
    function = "masked_softmax_cross_entropy_with_logits"
    return objective.dense(
        function, labels, logits, dict(options, skip_missing=True), name
    ).cast_losses()
