"""Cross-entropy per example where a model returns probabilities and no logits."""

from typing import TYPE_CHECKING

from tf1xent import _tf
from tf1xent._loss import objective
from tf1xent._loss.faces import with_options
from tf1xent._loss.options import ProbabilityOptions
from tf1xent._typing import Labels, Name, Tensor, TensorLike

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["softmax_cross_entropy_with_probabilities"]


@_tf.taken_whole()
@with_options(ProbabilityOptions, before="name")
def softmax_cross_entropy_with_probabilities(
    labels: Labels,
    probabilities: TensorLike,
    *,
    name: Name = None,
    **options: "Unpack[ProbabilityOptions]",
) -> Tensor:
    """Cross-entropy of label distributions and probabilities, clipped to [epsilon, 1].

    For one row with probabilities p, labels l, class weights c and C classes::

        P_j  = min(max(p_j, epsilon), 1)
        q_j  = (1 - label_smoothing) l_j + label_smoothing / C
        loss = weight sum_j c_j q_j (1 - P_j)^focal_gamma (-log P_j)

    For models that return probabilities and no logits. What softmax has rounded to 0 or 1 is lost;
    where there are logits, give those to `weighted_softmax_cross_entropy_with_logits`, or have this
    function find them with `look_through_softmax`.

    Args:
      labels: `Tensor` of any numeric dtype, cast to that of the probabilities; of their shape, or
        one that broadcasts to it once all axes but the class axis are made one.
      probabilities: `Tensor` of half, bfloat16, float32 or float64, `[batch_size, num_classes]` or
        of any other rank with a class axis; they are not divided by their sum.
      **options: each by its name, as `tf1xent._loss.options.ProbabilityOptions` lists them.
      name: name of the operation.

    Returns:
      `Tensor` of the dtype of the probabilities and their shape without the class axis: the losses,
      in nats.

    **Derivatives**: of every order, in probabilities, labels, weights and class weights; 0 in a
      probability outside [epsilon, 1], and in one of exactly 1 where `focal_gamma` makes the
      derivative infinite. With `look_through_softmax`, in the logits and not in the probabilities.

    Raises:
      ValueError: (graph build) shapes that do not fit, a constant option outside its range.
        With `look_through_softmax`, probabilities that are not the output of a tf.nn.softmax.
      TypeError: (graph build) probabilities that are not floating point.
      tf.errors.InvalidArgumentError: (session run) the same, where only the run can tell.

    Example: labels and probabilities are both distributions.

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     probabilities = tf.nn.softmax(tf.constant([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    ...     labels = tf.nn.softmax(tf.constant([[-1.0, 2.0, 0.0], [3.0, 1.0, -4.0]]))
    ...     losses = tf1xent.nn.softmax_cross_entropy_with_probabilities(labels, probabilities)
    ...     print("{:.5f}".format(session.run(tf.reduce_mean(losses))))
    1.81116

    Source: the definition of cross-entropy.
    """
    function = "softmax_cross_entropy_with_probabilities"
    per_example = objective.from_probabilities(function, labels, probabilities, options, name)
    return per_example.cast_losses()
