"""The loss of single examples with all its options, for integer labels, soft labels, probabilities.

For one example with logits a, label distribution l (one-hot of an integer label), class weights c
and C classes::

    x_j  = softcap tanh(a_j / softcap)        if there is a softcap
    x_j  = x_j / temperature
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
"""

from typing import Any, NamedTuple

from tf1xent import _tf
from tf1xent._loss import batch, checks, resolve
from tf1xent._loss.implementation import uses_kernels
from tf1xent._math import softmax, softmax_kernels
from tf1xent._math.focal import focal
from tf1xent._math.labels import (
    assert_labels_valid,
    checked_label_values,
    label_classes,
    names_a_class,
    with_as_many_rows,
)
from tf1xent._math.matrix import infinity_unless, smallest, take
from tf1xent._math.softcap import capped
from tf1xent._tf import tf


class Options(NamedTuple):
    """The options of an objective, as the public functions take them."""

    mask: Any = None
    ignore_label: Any = None
    weights: Any = None
    class_weights: Any = None
    label_smoothing: Any = 0.0
    class_mask: Any = None
    z_loss: Any = 0.0
    temperature: Any = 1.0
    focal_gamma: Any = 0.0
    softcap: Any = None
    axis: int = -1
    invalid_labels: Any = None
    skip_missing: bool = False
    implementation: Any = None

    def given(self):
        """The names of the options that are not left at their defaults."""
        return [
            name
            for name, value, default in zip(self._fields, self, Options())
            # Tensors and arrays compare entry by entry; none of them is a default.
            if not isinstance(value, (int, float, str, type(None))) or value != default
        ]


class PerExample(NamedTuple):
    """Losses, and what a reduction needs to know of them; all of the losses' shape.

    Attributes:
      losses: weighted, in the computing dtype; 0 for a row that does not count.
      weights: 0 for a row that does not count; None: all 1; or one scalar.
      counted: bool; None: all rows count.
      class_weights: of each row's label, ``sum_j c_j l_j``; None: all 1. Anything where a row does
        not count.
      dtype: that of the logits; half and bfloat16 are computed in float32.
    """

    losses: Any
    weights: Any
    counted: Any
    class_weights: Any
    dtype: Any

    def cast_losses(self):
        """The losses in the logits' dtype."""
        return tf.cast(self.losses, self.dtype)


def sparse(function, labels, logits, options, name=None):
    """The `PerExample` of integer labels."""
    resolve.check_invalid_labels(function, options.invalid_labels)
    kernels = uses_kernels(function, options.implementation)
    with tf.name_scope(name, function, [labels, logits]):
        labels, logits = _tf.convert_to_tensor(labels), _tf.convert_to_tensor(logits)
        checks.check_logits_dtype(function, labels, logits)
        checks.check_class_axis(function, labels, logits, options.axis, soft_labels=False)
        checks.shape_without_axis(function, logits, options.axis)
        precise = batch.axis_last(batch.as_precise(logits), options.axis)
        shape = checks.check_sparse(function, labels, precise, options.axis)
        matrix, vector = batch.sparse_rows(precise, labels)
        vector = with_as_many_rows(matrix, vector)
        counted = counted_labels(function, vector, matrix, options, shape, tf.shape(labels))
        if counted is not None:
            vector = _tf.where(counted, vector, tf.zeros_like(vector))
        policy = options.invalid_labels
        if not (kernels and policy is None):  # the kernels check as TensorFlow's own op does
            vector, invalid_value = checked(function, matrix, vector, policy)
        weights = row_weights(function, options, matrix, counted, shape, tf.shape(labels))
        matrix, partition = _transformed(function, matrix, logits, counted, options)
        op_name = name or function
        if kernels:
            invalid = "raise" if policy is None else "nan"
            label_losses = softmax_kernels.sparse_loss(
                matrix, vector, invalid_labels=invalid, name=op_name
            )
        else:
            label_losses = softmax.sparse_loss(
                matrix, vector, invalid_value=invalid_value, name=op_name
            )
        if partition is not None:
            takes_part = take(partition, label_classes(matrix, vector)[1])
            label_losses = label_losses + infinity_unless(takes_part, label_losses)
        losses, class_weights = _sparse_terms(
            function, label_losses, matrix, vector, partition, options, kernels
        )
        losses = whole_loss(function, losses, matrix, weights, counted, options)
        parts = losses, weights, counted, class_weights
        return per_example(parts, tf.shape(labels), shape, logits.dtype)


def dense(function, labels, logits, options, name=None):
    """The `PerExample` of soft labels."""
    resolve.refuse_for_soft_labels(function, options.ignore_label, options.invalid_labels)
    kernels = uses_kernels(function, options.implementation)
    with tf.name_scope(name, function, [labels, logits]):
        logits = _tf.convert_to_tensor(logits)
        checks.check_logits_dtype(function, logits, logits)
        checks.shape_without_axis(function, logits, options.axis)
        precise = batch.axis_last(batch.as_precise(logits), options.axis)
        matrix, labels, counted, shape = _dense_rows(function, labels, logits, precise, options)
        run_shape = tf.shape(precise)[:-1]
        weights = row_weights(function, options, matrix, counted, shape, run_shape)
        matrix, partition = _transformed(function, matrix, logits, counted, options)
        gamma = resolve.number(function, "focal_gamma", options.focal_gamma, matrix.dtype)
        labels, class_weights = _smoothed(function, labels, matrix, partition, options)
        if partition is None:
            losses = _dense_terms(matrix, labels, gamma, kernels)
        else:
            losses = _dense_terms_of_classes_in(matrix, labels, partition, gamma, kernels)
        losses = whole_loss(function, losses, matrix, weights, counted, options)
        parts = losses, weights, counted, class_weights
        return per_example(parts, run_shape, shape, logits.dtype)


def from_probabilities(function, labels, probabilities, options, epsilon, name=None):
    """The `PerExample` of soft labels against probabilities, clipped to [epsilon, 1]."""
    with tf.name_scope(name, function, [labels, probabilities]):
        given = _tf.convert_to_tensor(probabilities)
        checks.check_logits_dtype(function, given, given, "probabilities")
        checks.shape_without_axis(function, given, options.axis)
        precise = batch.axis_last(batch.as_precise(given), options.axis)
        matrix, labels, counted, shape = _dense_rows(function, labels, given, precise, options)
        run_shape = tf.shape(precise)[:-1]
        weights = row_weights(function, options, matrix, counted, shape, run_shape)
        if counted is not None:
            matrix = _tf.select_rows(counted, matrix, tf.ones_like(matrix))
        least = resolve.number(function, "epsilon", epsilon, matrix.dtype)
        surprise = _clipped_surprise(matrix, least)
        gamma = resolve.number(function, "focal_gamma", options.focal_gamma, matrix.dtype)
        labels, class_weights = _smoothed(function, labels, matrix, None, options)
        losses = tf.reduce_sum(labels * focal(surprise, gamma), axis=1)
        losses = whole_loss(function, losses, matrix, weights, counted, options)
        parts = losses, weights, counted, class_weights
        return per_example(parts, run_shape, shape, given.dtype)


def _clipped_surprise(probabilities, least):
    """-log of the probabilities in [`least`, 1]; others are replaced, so that no derivative
    overflows in them, by constants."""
    below, above = probabilities < least, probabilities > 1
    outside = tf.logical_or(below, above)
    surprise = -tf.log(_tf.where(outside, tf.ones_like(probabilities), probabilities))
    return _tf.where(below, tf.zeros_like(surprise) - tf.log(least), surprise)


# --- Which rows count, and with what weight -----------------------------------------------------


def counted_labels(function, labels, logits, options, shape, run_shape):
    """Which rows of integer labels count, [batch_size]; None: all."""
    conditions = []
    if options.mask is not None:
        conditions.append(resolve.mask_rows(function, options.mask, shape, run_shape))
    if options.ignore_label is not None:
        resolve.check_ignore_label(function, options.ignore_label, labels.dtype)
        ignored = tf.constant(options.ignore_label, labels.dtype)
        conditions.append(tf.not_equal(labels, ignored))
    if options.invalid_labels == "ignore":
        conditions.append(names_a_class(logits, labels))
    return _all_of(conditions)


def counted_distributions(function, labels, options, shape, run_shape):
    """Which rows of soft labels, [batch_size, num_classes], count: [batch_size]; None: all."""
    if options.mask is not None:
        return resolve.mask_rows(function, options.mask, shape, run_shape)
    return tf.reduce_any(tf.not_equal(labels, 0), axis=1) if options.skip_missing else None


def _all_of(conditions):
    counted = None
    for condition in conditions:
        counted = condition if counted is None else tf.logical_and(counted, condition)
    return counted


def checked(function, logits, labels, policy):
    """Integer labels after the run's checks, and the value of an invalid one's loss; None: NaN."""
    if policy is None:
        return checked_label_values(logits, labels)
    if policy == "raise":
        labels = assert_labels_valid(
            function, labels, names_a_class(logits, labels), tf.shape(logits)[1]
        )
    return labels, None


def _dense_rows(function, labels, logits, precise, options):
    """Logits and soft labels as matrices, which rows count, and the losses' static shape."""
    labels = _tf.convert_to_tensor(labels, name="labels", preferred_dtype=precise.dtype)
    checks.check_class_axis(function, labels, logits, options.axis, soft_labels=True)
    shape = checks.shape_without_axis(function, logits, options.axis)
    given = labels, logits, options.axis
    labels = batch.as_matrix(batch.axis_last(tf.cast(labels, precise.dtype), options.axis))
    matrix, labels = batch.broadcast(function, batch.as_matrix(precise), labels, given)
    matrix, labels = batch.with_a_class(matrix), batch.with_a_class(labels)
    counted = counted_distributions(function, labels, options, shape, tf.shape(precise)[:-1])
    if counted is not None:
        labels = _tf.select_rows(counted, labels, tf.zeros_like(labels))
    return matrix, labels, counted, shape


def row_weights(function, options, matrix, counted, shape, run_shape):
    """The rows' weights, 0 where a row does not count: [batch_size]; None: 1; or a scalar."""
    if options.weights is None:
        return None
    weights = resolve.weight_rows(function, options.weights, matrix.dtype, shape, run_shape)
    if counted is None or weights is None or weights.shape.ndims == 0:
        return weights
    return _tf.where(counted, weights, tf.zeros_like(weights))


# --- The logits ---------------------------------------------------------------------------------


def _transformed(function, matrix, logits, counted, options):
    """x of the formula, and which classes are in the partition, [batch_size, num_classes] or None.

    Rows that do not count are zeros, with every class in.
    """
    dtype = matrix.dtype
    softcap = resolve.number(function, "softcap", options.softcap, dtype)
    temperature = resolve.number(function, "temperature", options.temperature, dtype)
    if counted is not None:
        matrix = _tf.select_rows(counted, matrix, tf.zeros_like(matrix))
    partition = None
    if options.class_mask is not None:
        partition = _partition(function, matrix, logits, counted, options)
        matrix = _tf.where(partition, matrix, tf.zeros_like(matrix))
    if softcap is not None:
        matrix = capped(matrix, softcap)
    if temperature is not None:
        matrix = matrix / temperature
    if partition is not None:
        matrix = _tf.where(partition, matrix, smallest(matrix))
    return matrix, partition


def _partition(function, matrix, logits, counted, options):
    mask = resolve.class_mask_rows(
        function,
        options.class_mask,
        logits,
        options.axis,
        lambda tensor: batch.as_matrix(batch.axis_last(tensor, options.axis)),
    )
    partition = tf.logical_or(mask, tf.zeros_like(matrix, tf.bool))
    if counted is not None:
        partition = tf.logical_or(partition, tf.logical_not(counted)[:, tf.newaxis])
    return batch.with_static_shape(partition, matrix.shape)


# --- The loss -----------------------------------------------------------------------------------


def _sparse_terms(function, label_losses, logits, labels, partition, options, kernels):
    """The sum over the classes, and the weights of the labels' own classes, by row."""
    gamma = resolve.number(function, "focal_gamma", options.focal_gamma, logits.dtype)
    smoothing = resolve.number(function, "label_smoothing", options.label_smoothing, logits.dtype)
    weights = _class_weights(function, logits, options)
    losses = focal(label_losses, gamma)
    of_labels = None
    if weights is not None:
        of_labels = weights_of_labels(weights, names_a_class(logits, labels), labels)
        losses = losses * of_labels
    is_plain = gamma is None and weights is None and partition is None
    if smoothing is not None and is_plain:
        losses = losses + smoothing * softmax.label_gap(logits, labels)
    elif smoothing is not None:
        uniform = _uniform(logits, partition)
        if weights is not None:
            uniform = uniform * weights
        smoothed = _dense_terms(logits, uniform, gamma, kernels, fixed_labels=weights is None)
        losses = (1 - smoothing) * losses + smoothing * smoothed
    return losses, of_labels


def _smoothed(function, labels, logits, partition, options):
    """Soft labels c_j q_j, and sum_j c_j l_j by row."""
    smoothing = resolve.number(function, "label_smoothing", options.label_smoothing, logits.dtype)
    weights = _class_weights(function, logits, options)
    of_labels = tf.reduce_sum(labels if weights is None else labels * weights, axis=1)
    if smoothing is not None:
        labels = (1 - smoothing) * labels + smoothing * _uniform(logits, partition)
    if weights is not None:
        labels = labels * weights
    return labels, of_labels


def _class_weights(function, logits, options):
    if options.class_weights is None:
        return None
    return resolve.class_weight_vector(function, options.class_weights, logits.dtype, logits)


def weights_of_labels(class_weights, valid, labels):
    """The class weight of each label, [batch_size]; anything where a label is not valid."""
    return tf.gather(class_weights, _tf.where(valid, labels, tf.zeros_like(labels)))


def _uniform(logits, partition):
    """The uniform distribution over the classes that are in: [batch_size, num_classes]."""
    if partition is None:
        share = 1 / tf.cast(tf.shape(logits)[1], logits.dtype)
        return batch.with_static_shape(tf.fill(tf.shape(logits), share), logits.shape)
    inside = tf.cast(partition, logits.dtype)
    return inside / tf.reduce_sum(inside, axis=1)[:, tf.newaxis]


def _dense_terms_of_classes_in(logits, labels, partition, gamma, kernels):
    """`_dense_terms`; infinite where a class that is left out has a label, and without derivatives
    in the labels of those that have none."""
    counts = tf.logical_or(partition, tf.not_equal(labels, 0))
    labels = _tf.where(counts, labels, tf.zeros_like(labels))
    losses = _dense_terms(logits, labels, gamma, kernels)
    takes_part = tf.reduce_all(tf.logical_or(partition, tf.logical_not(counts)), axis=1)
    return losses + infinity_unless(takes_part, losses)


def _dense_terms(logits, labels, gamma, kernels, fixed_labels=False):
    """sum_j l_j (1 - p_j)^gamma (z - x_j): [batch_size]."""
    if gamma is None and kernels:
        return softmax_kernels.dense_loss(logits, labels)
    if gamma is None:
        dense_loss = softmax.dense_loss_of_logits if fixed_labels else softmax.dense_loss
        return dense_loss(logits, labels)
    surprise = softmax.label_gradient(logits, labels, tf.ones_like(logits[:, 0]))
    return tf.reduce_sum(labels * focal(surprise, gamma), axis=1)


def whole_loss(function, losses, logits, weights, counted, options):
    """The sum over the classes, with what is added and multiplied by row."""
    z_loss = resolve.number(function, "z_loss", options.z_loss, logits.dtype)
    if z_loss is not None:
        losses = losses + z_loss * tf.square(softmax.log_partition(logits))
    if weights is not None:
        losses = losses * weights
    if counted is not None:
        losses = _tf.where(counted, losses, tf.zeros_like(losses))
    return losses


def per_example(parts, run_shape, shape, dtype):
    """Vectors by row in the losses' own shape."""

    def shaped(vector):
        if vector is None or vector.shape.ndims == 0:
            return vector
        if shape.ndims != 1:
            vector = tf.reshape(vector, run_shape)
        return batch.with_static_shape(vector, shape)

    losses, weights, counted, class_weights = [shaped(part) for part in parts]
    return PerExample(_tf.tied_to_function_inputs(losses), weights, counted, class_weights, dtype)
