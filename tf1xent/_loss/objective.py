"""The loss of single examples with all its options, for integer labels, soft labels, probabilities.

For one example with logits a, label distribution l (one-hot of an integer label), class weights c
and C classes::

    x_j  = softcap tanh(a_j / softcap)        if there is a softcap
    x_j  = x_j / temperature
    x_j  = x_j + logit_adjustment_j
    x_j  = -inf                               for a class that `class_mask` leaves out; K stay in
    z    = log sum_j exp(x_j),  p_j = exp(x_j - z)
    q_j  = (1 - label_smoothing) l_j + label_smoothing / K      (the second term: classes left in)
    loss = weight (sum_j c_j q_j (1 - p_j)^focal_gamma (z - x_j) + z_loss z^2)

Smoothing is that of TensorFlow, optax and PyTorch: labels are not divided by their sum. Class
weights weigh each class's term, and so the smoothing's share of every class by that class's own
weight, as in PyTorch; z_loss they do not weigh. A row that does not count, because of `mask`,
`ignore_label`, ``invalid_labels="ignore"`` or missing labels, has a loss of 0, smoothing and z_loss
included: whatever stands in it is replaced before anything is computed of it, and its result
afterwards, so that not even a NaN of it reaches a value or a derivative.

With `top_k_examples` only the largest losses of the rows that count are left; the other rows do not
count. The choice is made of the values and is a constant of the derivatives, as in Shrivastava et
al., CVPR 2016.

The logit adjustment is the log-prior of the classes (Menon et al., ICLR 2021). Softcap and
temperature bound and scale what the model says of an example; the prior is no part of that, so it
comes after them: p is then the model's softmax at that temperature, times the prior, normalised. A
class that the mask leaves out has no probability whatever its prior, so the mask comes last.
"""

from typing import Any, Callable, Mapping, NamedTuple, Optional, Tuple

from tf1xent import _tf
from tf1xent._loss import batch, option_checks, resolve
from tf1xent._loss.implementation import uses_kernels
from tf1xent._loss.options import with_defaults
from tf1xent._loss.resolve import Resolved
from tf1xent._math import softmax, softmax_kernels
from tf1xent._math.focal import focal
from tf1xent._math.label_gap import label_gap
from tf1xent._math.labels import label_classes, names_a_class
from tf1xent._math.matrix import infinity_unless, smallest, take
from tf1xent._math.transforms import transformed
from tf1xent._tf import tf
from tf1xent._typing import DType, Labels, Logits, Name, Tensor, TensorLike


class PerExample(NamedTuple):
    """Losses, and what a reduction needs to know of them; all of the losses' shape.

    Attributes:
      losses: weighted, in the computing dtype; 0 for a row that does not count.
      weights: 0 for a row that does not count; None: all 1; or one scalar.
      valid_rows: bool; None: all rows count.
      class_weights: of each row's label, ``sum_j c_j l_j``; None: all 1. Anything where a row does
        not count.
      dtype: that of the logits; half and bfloat16 are computed in float32.
    """

    losses: Tensor
    weights: Optional[Tensor]
    valid_rows: Optional[Tensor]
    class_weights: Optional[Tensor]
    dtype: DType

    def cast_losses(self) -> Tensor:
        """The losses in the logits' dtype."""
        return tf.cast(self.losses, self.dtype)


def sparse(
    function: str, labels: Labels, logits: Logits, options: Mapping[str, Any], name: Name = None
) -> PerExample:
    """The `PerExample` of integer labels."""
    options = with_defaults(options)
    option_checks.check_invalid_labels(function, options["invalid_labels"])
    kernels = uses_kernels(function, options["implementation"])
    with tf.name_scope(name, function, [labels, logits]):
        examples = batch.of_integer_labels(function, labels, logits, options["axis"])
        resolved = resolve.of_integer_labels(examples, options, kernels)
        matrix = _transformed(examples.matrix, resolved)
        op_name = name or function
        if kernels:
            policy = "raise" if options["invalid_labels"] is None else "nan"
            label_losses = softmax_kernels.sparse_loss(
                matrix, resolved.labels, invalid_labels=policy, name=op_name
            )
        else:
            label_losses = softmax.sparse_loss(
                matrix, resolved.labels, invalid_value=resolved.invalid_value, name=op_name
            )
        losses, class_weights = _sparse_terms(label_losses, matrix, resolved, kernels)
        return per_example(examples, resolved, whole_loss(losses, matrix, resolved), class_weights)


def dense(
    function: str, labels: Labels, logits: Logits, options: Mapping[str, Any], name: Name = None
) -> PerExample:
    """The `PerExample` of soft labels."""
    options = with_defaults(options)
    option_checks.refuse_for_soft_labels(
        function, options["ignore_label"], options["invalid_labels"]
    )
    kernels = uses_kernels(function, options["implementation"])
    with tf.name_scope(name, function, [labels, logits]):
        examples = batch.of_distributions(function, labels, logits, options["axis"])
        resolved = resolve.of_soft_labels(examples, options)
        matrix = _transformed(examples.matrix, resolved)
        distributions, class_weights = _smoothed(matrix, resolved)
        losses = _dense_terms(matrix, distributions, resolved, kernels)
        return per_example(examples, resolved, whole_loss(losses, matrix, resolved), class_weights)


def from_probabilities(
    function: str,
    labels: Labels,
    probabilities: TensorLike,
    options: Mapping[str, Any],
    name: Name = None,
) -> PerExample:
    """The `PerExample` of soft labels against probabilities, clipped to [epsilon, 1].

    With `look_through_softmax` that of the logits behind them, clipped nowhere.
    """
    options = with_defaults(options)
    if options["look_through_softmax"]:
        logits = batch.logits_of_softmax(function, probabilities, options["axis"])
        return dense(function, labels, logits, options, name)
    with tf.name_scope(name, function, [labels, probabilities]):
        examples = batch.of_distributions(
            function, labels, probabilities, options["axis"], "probabilities"
        )
        resolved = resolve.of_soft_labels(examples, options)
        matrix = examples.matrix
        if resolved.valid_rows is not None:
            matrix = _tf.select_rows(resolved.valid_rows, matrix, tf.ones_like(matrix))
        surprisal = _clipped_surprisal(matrix, resolved.epsilon)
        distributions, class_weights = _smoothed(matrix, resolved)
        losses = tf.reduce_sum(distributions * focal(surprisal, resolved.focal_gamma), axis=1)
        return per_example(examples, resolved, whole_loss(losses, matrix, resolved), class_weights)


# --- The logits ---------------------------------------------------------------------------------


def _transformed(matrix: Tensor, resolved: Resolved) -> Tensor:
    """x of the formula; nothing of the logits of rows that do not count is in it."""
    return transformed(
        matrix,
        valid_rows=resolved.valid_rows,
        class_included=resolved.class_included,
        softcap=resolved.softcap,
        temperature=resolved.temperature,
        logit_adjustment=resolved.logit_adjustment,
    )


def _clipped_surprisal(probabilities: Tensor, least: Any) -> Tensor:
    """-log of the probabilities in [`least`, 1]; others are replaced, so that no derivative
    overflows in them, by constants."""
    below, above = probabilities < least, probabilities > 1
    outside = tf.logical_or(below, above)
    surprisal = -tf.log(_tf.where(outside, tf.ones_like(probabilities), probabilities))
    return _tf.where(below, tf.zeros_like(surprisal) - tf.log(least), surprisal)


# --- The sum over the classes -------------------------------------------------------------------


def _sparse_terms(
    label_losses: Tensor, logits: Tensor, resolved: Resolved, kernels: bool
) -> Tuple[Tensor, Optional[Tensor]]:
    """The sum over the classes, and the weights of the labels' own classes, by row."""
    labels, included = resolved.labels, resolved.class_included
    gamma, smoothing, weights = (
        resolved.focal_gamma,
        resolved.label_smoothing,
        resolved.class_weights,
    )
    if included is not None:
        takes_part = take(included, label_classes(logits, labels)[1])
        label_losses = label_losses + infinity_unless(takes_part, label_losses)
    losses = focal(label_losses, gamma)
    of_labels = None
    if weights is not None:
        of_labels = weights_of_labels(weights, names_a_class(logits, labels), labels)
        losses = losses * of_labels
    is_plain = gamma is None and weights is None and included is None
    if smoothing is not None and is_plain:
        losses = losses + smoothing * label_gap(logits, labels)
    elif smoothing is not None:
        uniform = _uniform(logits, included)
        if weights is not None:
            uniform = uniform * weights
        smoothed = _focal_terms(logits, uniform, gamma, kernels, fixed_labels=weights is None)
        losses = (1 - smoothing) * losses + smoothing * smoothed
    return losses, of_labels


def _smoothed(logits: Tensor, resolved: Resolved) -> Tuple[Tensor, Tensor]:
    """Soft labels c_j q_j, and sum_j c_j l_j by row."""
    labels, weights = resolved.labels, resolved.class_weights
    smoothing = resolved.label_smoothing
    of_labels = tf.reduce_sum(labels if weights is None else labels * weights, axis=1)
    if smoothing is not None:
        uniform = _uniform(logits, resolved.class_included)
        labels = (1 - smoothing) * labels + smoothing * uniform
    if weights is not None:
        labels = labels * weights
    return labels, of_labels


def weights_of_labels(class_weights: Tensor, valid: Tensor, labels: Tensor) -> Tensor:
    """The class weight of each label, [batch_size]; anything where a label is not valid."""
    return tf.gather(class_weights, _tf.where(valid, labels, tf.zeros_like(labels)))


def _uniform(logits: Tensor, included: Optional[Tensor]) -> Tensor:
    """The uniform distribution over the classes that are in: [batch_size, num_classes]."""
    if included is None:
        share = 1 / tf.cast(tf.shape(logits)[1], logits.dtype)
        return _tf.set_static_shape(tf.fill(tf.shape(logits), share), logits.shape)
    inside = tf.cast(included, logits.dtype)
    return inside / tf.reduce_sum(inside, axis=1)[:, tf.newaxis]


def _dense_terms(logits: Tensor, labels: Tensor, resolved: Resolved, kernels: bool) -> Tensor:
    """The sum over the classes of soft labels: [batch_size].

    It is infinite where a class that is left out has a label, and has no derivatives in the labels
    of those that have none.
    """
    included, gamma = resolved.class_included, resolved.focal_gamma
    if included is None:
        return _focal_terms(logits, labels, gamma, kernels)
    counts = tf.logical_or(included, tf.not_equal(labels, 0))
    labels = _tf.where(counts, labels, tf.zeros_like(labels))
    losses = _focal_terms(logits, labels, gamma, kernels)
    takes_part = tf.reduce_all(tf.logical_or(included, tf.logical_not(counts)), axis=1)
    return losses + infinity_unless(takes_part, losses)


def _focal_terms(
    logits: Tensor, labels: Tensor, gamma: Any, kernels: bool, fixed_labels: bool = False
) -> Tensor:
    """sum_j l_j (1 - p_j)^gamma (z - x_j): [batch_size]."""
    if gamma is None and kernels:
        return softmax_kernels.dense_loss(logits, labels)
    if gamma is None:
        dense_loss = softmax.dense_loss_of_logits if fixed_labels else softmax.dense_loss
        return dense_loss(logits, labels)
    surprisal = softmax.label_gradient(logits, labels, tf.ones_like(logits[:, 0]))
    return tf.reduce_sum(labels * focal(surprisal, gamma), axis=1)


# --- The rows -----------------------------------------------------------------------------------


def whole_loss(losses: Tensor, logits: Tensor, resolved: Resolved) -> Tensor:
    """The sum over the classes, with what is added and multiplied by row."""
    return with_rows(losses, lambda: softmax.log_partition(logits), resolved)


def with_rows(losses: Tensor, log_partition: Callable[[], Tensor], resolved: Resolved) -> Tensor:
    """`whole_loss` where ``log_partition()`` is not that of one matrix of logits."""
    if resolved.z_loss is not None:
        losses = losses + resolved.z_loss * tf.square(log_partition())
    if resolved.weights is not None:
        losses = losses * resolved.weights
    if resolved.valid_rows is not None:
        losses = _tf.where(resolved.valid_rows, losses, tf.zeros_like(losses))
    return losses


def _hardest(losses: Tensor, resolved: Resolved) -> Tuple[Tensor, Resolved]:
    """Losses and options when only `num_hardest` of the valid rows count: those of most loss."""
    valid, least = resolved.valid_rows, smallest(losses)
    keys = _tf.where(tf.is_nan(losses), -least, losses)
    if valid is not None:
        keys = _tf.where(valid, keys, least)
    # All are sorted: XLA takes no number of rows that only the run knows. Of equals the first rows.
    size = tf.shape(losses)[0]
    by_size = tf.nn.top_k(tf.stop_gradient(keys), size)[1]
    is_among = tf.cast(tf.range(size) < resolved.num_hardest, tf.int32)
    chosen = tf.scatter_nd(by_size[:, tf.newaxis], is_among, [size]) > 0
    if valid is not None:
        chosen = tf.logical_and(chosen, valid)
    weights = resolved.weights
    if weights is not None and weights.shape.ndims != 0:
        weights = _tf.where(chosen, weights, tf.zeros_like(weights))
    losses = _tf.where(chosen, losses, tf.zeros_like(losses))
    return losses, resolved._replace(valid_rows=chosen, weights=weights)


def per_example(
    examples: batch.Batch, resolved: Resolved, losses: Tensor, class_weights: Optional[Tensor]
) -> PerExample:
    """Losses and class weights by row, in the losses' own shape."""

    def shaped(vector: Optional[Tensor]) -> Optional[Tensor]:
        if vector is None or vector.shape.ndims == 0:
            return vector
        if examples.shape.ndims != 1:
            vector = tf.reshape(vector, examples.run_shape)
        return _tf.set_static_shape(vector, examples.shape)

    if resolved.num_hardest is not None:
        losses, resolved = _hardest(losses, resolved)
    return PerExample(
        _tf.tied_to_function_inputs(shaped(losses)),
        shaped(resolved.weights),
        shaped(resolved.valid_rows),
        shaped(class_weights),
        examples.dtype,
    )
