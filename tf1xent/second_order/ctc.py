"""The second derivative of the CTC loss, by a forward-backward recursion with tangents.

The loss of one example is -log of the sum, over all paths through the states of its label sequence,
of the product of the class probabilities on the way. With y = softmax(logits) and p(t, s) the share
of the paths that are in state s at time t, the op returns the gradient::

    G[t, c] = y[t, c] - sum of p(t, s) over the states s that emit class c

The Hessian is symmetric, so the gradient of <G, u> is the derivative of G along u::

    y (u - <y, u>)  -  sum of p(t, s) (q(t, s) - sum over s' of p(t, s') q(t, s'))

where q(t, s) is the mean, over the paths through (t, s), of the sum of u along the path. The mean
splits into the part up to t and the part from t on. Each follows the same recursion as the log
sums of the paths: the mean over the paths into a state is that over the states before it, weighted
by their sums. Reversed in time, with the labels reversed too, the second part is the first part of
another sequence; so one loop over time computes both, for twice the batch.

States are numbered blank, label, blank, label, ..., blank. Blanks may repeat, and labels too if
`ctc_merge_repeated`. A label may follow the one before without a blank between them, unless the two
are equal and merge. All is computed in float64.
"""

from typing import NamedTuple, Optional, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.errors import MissingDerivativeError
from tf1xent.second_order.table import extends

# The log of 0, of which sums and differences are finite.
_LOG_ZERO = -1e30


class _Labels(NamedTuple):
    """The label sequences without repetitions to collapse and without null labels.

    Attributes:
      values: `[batch, longest]` int32, 0 behind the end.
      lengths: `[batch]` int32.
      given_lengths: `[batch]` int32, of the sequences as they were given.
    """

    values: Tensor
    lengths: Tensor
    given_lengths: Tensor


def _labels(op: Operation, batch: Tensor, null: Optional[Tensor]) -> _Labels:
    """The labels of a CTC op; those from `null` on, if not None, say that a sequence has ended."""
    _, indices, values, _ = op.inputs
    rows = indices[:, 0]
    kept = tf.ones_like(values, tf.bool) if null is None else values < null
    if op.get_attr("preprocess_collapse_repeated"):
        # The first entry is compared with entries that differ from every label.
        before = tf.concat([tf.fill([1], -1), values[:-1]], 0)
        row_before = tf.concat([tf.fill([1], tf.constant(-1, tf.int64)), rows[:-1]], 0)
        repeated = tf.logical_and(tf.equal(values, before), tf.equal(rows, row_before))
        kept = tf.logical_and(kept, tf.logical_not(repeated))
    batch = tf.cast(batch, tf.int64)
    given = tf.unsorted_segment_sum(tf.ones_like(values), rows, batch)
    rows, values = tf.boolean_mask(rows, kept), tf.boolean_mask(values, kept)
    lengths = tf.unsorted_segment_sum(tf.ones_like(values), rows, batch)
    longest = tf.reduce_max(tf.concat([lengths, [1]], 0))
    columns = tf.range(tf.size(values)) - tf.gather(tf.cumsum(lengths, exclusive=True), rows)
    places = tf.stack([rows, tf.cast(columns, tf.int64)], 1)
    shape = tf.stack([batch, tf.cast(longest, tf.int64)])
    return _Labels(tf.scatter_nd(places, values, shape), lengths, given)


def _reversed(tensor: Tensor, lengths: Tensor, axis: int, batch_axis: int) -> Tensor:
    """Reverses the first `lengths` entries along an axis; the others stay."""
    return tf.reverse_sequence(tensor, lengths, seq_axis=axis, batch_axis=batch_axis)


def _path_sums(
    scores: Tensor, tangents: Tensor, stays: Tensor, skips: Tensor
) -> Tuple[Tensor, Tensor]:
    """Over the paths that begin in the first two states and end in each: log sums and means.

    Args:
      scores: `[time, batch, states]` float64, added along a path.
      tangents: of the same shape, whose sum along a path is averaged.
      stays: `[batch, states]`, 0 where a path may stay in a state, else the log of 0.
      skips: 0 where it may come from the state two before, else the log of 0.

    Returns:
      `[time, batch, states]` log of the sum of exp(score), and the means weighted by it.
    """

    def shifted(values: Tensor, by: int, fill: float) -> Tensor:
        return tf.pad(values[:, :-by], [[0, 0], [by, 0]], constant_values=fill)

    def step(before: Tuple[Tensor, Tensor], at: Tuple[Tensor, Tensor]) -> Tuple[Tensor, Tensor]:
        sums, means = before
        logs = [sums + stays, shifted(sums, 1, _LOG_ZERO), shifted(sums, 2, _LOG_ZERO) + skips]
        largest = tf.stop_gradient(tf.maximum(tf.maximum(logs[0], logs[1]), logs[2]))
        weights = [tf.exp(log - largest) for log in logs]
        total = tf.add_n(weights)
        means_before = [means, shifted(means, 1, 0.0), shifted(means, 2, 0.0)]
        mean = tf.add_n([w * m for w, m in zip(weights, means_before)]) / total
        # Without a bound, log zeros would add up over the time steps.
        sums = tf.maximum(at[0] + largest + tf.log(total), tf.constant(_LOG_ZERO, sums.dtype))
        return sums, at[1] + mean

    nothing = tf.fill(tf.shape(scores[0]), tf.constant(_LOG_ZERO, scores.dtype))
    # As if a path were in the first state before the first step.
    start = tf.concat([tf.zeros_like(nothing[:, :1]), nothing[:, 1:]], 1)
    return tf.scan(step, (scores, tangents), initializer=(start, tf.zeros_like(start)))


def _hessian_product(op: Operation, tangent: Tensor, blank: Tensor) -> Tensor:
    """The derivative of the op's second output along `tangent`, `[time, batch, classes]`."""
    logits, _, _, lengths = op.inputs
    x, u = tf.cast(logits, tf.float64), tf.cast(tangent, tf.float64)
    time, batch, classes = tf.unstack(tf.shape(x), num=3)
    # The older op takes the last class for blank, and labels from it on end a sequence.
    labels = _labels(op, batch, blank if op.type == "CTCLoss" else None)
    merges = op.get_attr("ctc_merge_repeated")
    states = _states(labels.values, blank)
    num_states = 2 * labels.lengths + 1
    both = tf.concat([states, _reversed(states, num_states, 1, 0)], 0)
    stays, skips = _transitions(both, merges)
    places = tf.range(batch)[:, tf.newaxis] * classes + states

    def of_states(values: Tensor) -> Tensor:
        by_class = tf.reshape(tf.transpose(values, [1, 2, 0]), tf.stack([batch * classes, time]))
        return tf.transpose(tf.gather(by_class, places), [2, 0, 1])

    def turned(values: Tensor) -> Tensor:
        return _reversed(_reversed(values, lengths, 0, 1), num_states, 2, 1)

    log_zero = tf.constant(_LOG_ZERO, x.dtype)
    scores = of_states(tf.maximum(tf.nn.log_softmax(x), log_zero))
    tangents = of_states(u)
    sums, means = _path_sums(
        tf.concat([scores, turned(scores)], 1),
        tf.concat([tangents, turned(tangents)], 1),
        stays,
        skips,
    )
    until, since = sums[:, :batch], turned(sums[:, batch:])
    paths = until + since - scores
    q = means[:, :batch] + turned(means[:, batch:]) - tangents
    is_state = tf.sequence_mask(num_states, tf.shape(states)[1])
    zeros = tf.zeros_like(paths)
    paths += tf.where(tf.logical_and(is_state, zeros >= 0), zeros, zeros + _LOG_ZERO)
    # Without a path from end to end the op returns the softmax alone.
    has_path = tf.cast(tf.reduce_max(paths[0], axis=1) > _LOG_ZERO / 2, x.dtype)
    shares = tf.nn.softmax(paths)
    q -= tf.reduce_sum(shares * q, axis=2, keepdims=True)
    moved = shares * q * has_path[:, tf.newaxis]
    by_class = tf.unsorted_segment_sum(tf.transpose(moved, [1, 2, 0]), places, batch * classes)
    of_paths = tf.transpose(tf.reshape(by_class, tf.stack([batch, classes, time])), [2, 0, 1])
    y = tf.nn.softmax(x)
    product = y * (u - tf.reduce_sum(y * u, axis=2, keepdims=True)) - of_paths
    counted = _counted(op, labels, time)
    return tf.cast(product * tf.cast(counted, x.dtype)[:, :, tf.newaxis], logits.dtype)


def _states(labels: Tensor, blank: Tensor) -> Tensor:
    """`[batch, 2 longest + 1]`, the class that each state emits."""
    pairs = tf.stack([tf.fill(tf.shape(labels), blank), labels], 2)
    interleaved = tf.reshape(pairs, tf.stack([tf.shape(labels)[0], -1]))
    return tf.concat([interleaved, tf.fill(tf.shape(labels[:, :1]), blank)], 1)


def _transitions(states: Tensor, merges: bool) -> Tuple[Tensor, Tensor]:
    """Whether a path may stay in each state, and come from the one two before, as logs."""
    is_label = tf.equal(tf.range(tf.shape(states)[1]) % 2, 1)
    is_label = tf.logical_and(is_label, tf.ones_like(states, tf.bool))
    two_before = tf.pad(states[:, :-2], [[0, 0], [2, 0]], constant_values=-1)
    skips, stays = is_label, tf.ones_like(is_label)
    if merges:
        skips = tf.logical_and(skips, tf.not_equal(states, two_before))
    else:
        stays = tf.logical_not(is_label)
    zeros = tf.zeros(tf.shape(states), tf.float64)
    return tf.where(stays, zeros, zeros + _LOG_ZERO), tf.where(skips, zeros, zeros + _LOG_ZERO)


def _counted(op: Operation, labels: _Labels, time: Tensor) -> Tensor:
    """`[time, batch]`, where the op's gradient is not 0 by definition."""
    lengths = op.inputs[3]
    counted = tf.transpose(tf.sequence_mask(lengths, time))
    if op.get_attr("ignore_longer_outputs_than_inputs"):
        fits = labels.given_lengths <= lengths
        counted = tf.logical_and(counted, fits)
    return counted


def _with_inputs(op: Operation) -> Operation:
    """The op, or what stands for it, with all its inputs: tapes drop those."""
    if op.inputs is not None and all(tensor is not None for tensor in op.inputs):
        return op
    if tf.executing_eagerly():
        raise MissingDerivativeError(
            f"{op.type}: a second derivative needs the op's inputs, which this eager tape has not "
            "kept. Compute the loss in a tf.function or a graph."
        )
    return op.outputs[1].op


def _ctc_gradient(
    op: Operation,
    in_loss: Optional[Tensor],
    in_gradient: Optional[Tensor],
    blank: Tensor,
) -> Tuple[Optional[Tensor], None, None, None]:
    in_logits = None
    first_only = _tf.is_zero(in_gradient)
    if in_loss is not None and (first_only or not _tf.is_zero(in_loss)):
        # As TensorFlow computes it, to the bit, but without its guard.
        in_logits = tf.expand_dims(in_loss, -1) * _tf.in_place_of_guard(op)
    if not first_only:
        op = _with_inputs(op)
        # TF 1.x tells the gradients of a TensorArray apart by the last scope whose name begins with
        # "gradients": the array itself must be in none of them, or its gradients are wrong.
        with tf.name_scope(None), tf.name_scope("ctc_second_derivative"):
            product = _hessian_product(op, in_gradient, blank)
        product = _tf.with_static_shape(product, op.inputs[0].shape)
        in_logits = product if in_logits is None else in_logits + product
    return in_logits, None, None, None


_METHOD = "The forward-backward recursion with tangents in float64: a loop over time."


@extends("CTCLoss", _METHOD, "third; every with v2 control flow")
def _ctc_loss(
    op: Operation, in_loss: Optional[Tensor], in_gradient: Optional[Tensor]
) -> Tuple[Optional[Tensor], None, None, None]:
    return _ctc_gradient(op, in_loss, in_gradient, tf.shape(op.outputs[1])[2] - 1)


@extends("CTCLossV2", _METHOD, "third; every with v2 control flow")
def _ctc_loss_v2(
    op: Operation, in_loss: Optional[Tensor], in_gradient: Optional[Tensor]
) -> Tuple[Optional[Tensor], None, None, None]:
    return _ctc_gradient(op, in_loss, in_gradient, tf.constant(0))
