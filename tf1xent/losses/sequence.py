"""The loss of sequences, as tf.contrib.seq2seq's, on every TensorFlow."""

from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._loss import objective
from tf1xent._loss.faces import with_options
from tf1xent._loss.options import SequenceOptions, given_names
from tf1xent._tf import tf
from tf1xent._typing import Labels, Logits, Name, Tensor, TensorLike
from tf1xent.losses.reduction import count_nonzero, row_weights

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["sequence_loss"]

_FUNCTION = "sequence_loss"


@_tf.taken_whole()
@with_options(SequenceOptions)
def sequence_loss(
    logits: Logits,
    targets: Labels,
    weights: TensorLike,
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    sum_over_timesteps: bool = False,
    sum_over_batch: bool = False,
    softmax_loss_function: Optional[Callable[..., Any]] = None,
    name: Name = None,
    **options: "Unpack[SequenceOptions]",
) -> Tensor:
    """Weighted cross-entropy of the labels of sequences, averaged or summed along either axis.

    For sequences of unequal lengths: the weights of padding are 0. Unlike a weight of 0, a
    `mask` keeps the NaN of a token out.

    With the losses by token of `tf1xent.nn.masked_sparse_softmax_cross_entropy_with_logits`, times
    their weights: averaging along an axis divides their sum by the sum of the weights, "summing"
    divides it by the number of weights that are not 0; so does tf.contrib.seq2seq.sequence_loss.

    Args:
      logits: `Tensor` of half, bfloat16, float32 or float64, `[batch_size, sequence_length,
        num_classes]`.
      targets: the labels, `Tensor` of int32 or int64, `[batch_size, sequence_length]`.
      weights: `Tensor`, `[batch_size, sequence_length]`: 0 for padding, often 1 for the rest.
      average_across_timesteps: whether to average along the sequences.
      average_across_batch: whether to average along the batch.
      sum_over_timesteps: whether to sum along the sequences.
      sum_over_batch: whether to sum along the batch.
      softmax_loss_function: called in the place of our loss, as ``(labels=..., logits=...)``, with
        the tokens of all sequences in one row.
      name: name scope of the operations.
      **options: each by its name, as `tf1xent._loss.options.SequenceOptions` lists them.

    Returns:
      `Tensor` of the logits' dtype, in nats: a scalar, or `[batch_size]`, `[sequence_length]` or
      both where an axis is neither averaged nor summed along. With nothing to count it is 0.

    **Derivatives**: of every order, in logits, weights and class weights.

    Raises:
      ValueError: (graph build) logits that have not 3 axes, targets or weights that have not 2, an
        axis to be averaged and summed along, an option beside a `softmax_loss_function`.
      TypeError: (graph build) targets that are not int32 or int64, logits that are not floating
        point.
      tf.errors.InvalidArgumentError: (session run) shapes that do not fit and only the run can
        tell, and labels as `invalid_labels` says.

    Example: two sentences of three words and four tags, the second one a word shorter.

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     logits = tf.one_hot([[1, 0, 2], [3, 1, 0]], 4, on_value=2.0)
    ...     loss = tf1xent.losses.sequence_loss(
    ...         logits, targets=[[1, 0, 0], [3, 1, 0]], weights=[[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]
    ...     )
    ...     print("{:.5f}".format(session.run(loss)))
    0.74075

    See also: `tf1xent.losses.sparse_softmax_cross_entropy` has the other denominators.

    Source: tf.contrib.seq2seq of TF 1.15, from which tests take the numbers.
    """
    _check_flags(average_across_timesteps, average_across_batch, sum_over_timesteps, sum_over_batch)
    if softmax_loss_function is not None:
        _check_no_options(given_names(options))
    with tf.name_scope(name, _FUNCTION, [logits, targets, weights]):
        logits, targets, weights = _checked_tensors(logits, targets, weights)
        if softmax_loss_function is None:
            chosen = dict(options, weights=weights)
            per_example = objective.sparse(_FUNCTION, targets, logits, chosen)
        else:
            per_example = _from_function(softmax_loss_function, logits, targets, weights)
        average = average_across_batch, average_across_timesteps
        total = sum_over_batch, sum_over_timesteps
        return tf.cast(_reduced(per_example, average, total), logits.dtype)


def _reduced(
    per_example: objective.PerExample, average: Sequence[bool], total: Sequence[bool]
) -> Tensor:
    """`average` and `total` tell, of the batch's axis and of time's, whether along it."""
    flags = average if any(average) else total
    axes = [axis for axis, reduces in enumerate(flags) if reduces]
    if not axes:
        return per_example.losses
    weights = row_weights(per_example)
    losses = tf.reduce_sum(per_example.losses, axis=axes)
    if any(average):
        return tf.div_no_nan(losses, tf.reduce_sum(weights, axis=axes))
    return tf.div_no_nan(losses, tf.cast(count_nonzero(weights, axes), losses.dtype))


def _from_function(
    softmax_loss_function: Callable[..., Tensor], logits: Tensor, targets: Tensor, weights: Tensor
) -> objective.PerExample:
    flat = tf.reshape(logits, tf.stack([-1, tf.shape(logits)[2]]))
    losses = softmax_loss_function(labels=tf.reshape(targets, [-1]), logits=flat)
    losses = tf.reshape(losses, tf.shape(logits)[:2])
    weights = tf.cast(weights, losses.dtype)
    return objective.PerExample(losses * weights, weights, None, None, logits.dtype)


def _check_no_options(names: Sequence[str]) -> None:
    if names:
        raise ValueError(
            f"{_FUNCTION}: options of the loss must not be given beside `softmax_loss_function`, "
            f"got {', '.join(names)}. Give them to that function."
        )


def _check_flags(
    average_timesteps: bool, average_batch: bool, sum_timesteps: bool, sum_batch: bool
) -> None:
    for axis, average, total in (
        ("timesteps", average_timesteps, sum_timesteps),
        ("batch", average_batch, sum_batch),
    ):
        if average and total:
            raise ValueError(
                f"{_FUNCTION}: `average_across_{axis}` and `sum_over_{axis}` must not both be "
                "True. Set one of them to False."
            )


def _checked_tensors(
    logits: Logits, targets: Labels, weights: TensorLike
) -> Tuple[Tensor, Tensor, Tensor]:
    logits, targets = _tf.convert_to_tensor(logits), _tf.convert_to_tensor(targets)
    weights = tf.convert_to_tensor(weights, preferred_dtype=logits.dtype)
    for name, tensor, axes in (
        ("logits", logits, "[batch_size, sequence_length, num_classes]"),
        ("targets", targets, "[batch_size, sequence_length]"),
        ("weights", weights, "[batch_size, sequence_length]"),
    ):
        if tensor.shape.ndims != axes.count(",") + 1:
            raise ValueError(
                f"{_FUNCTION}: `{name}` must be {axes}, got the shape {tensor.shape}. Give it its "
                "rank: tf.reshape or set_shape."
            )
    return logits, targets, weights
