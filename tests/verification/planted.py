"""Pairs of losses: equal ones in the styles of TensorFlow 1.x programs, and ones that differ."""

import numpy as np
import tensorflow.compat.v1 as tf

import tf1xent

sparse_op = tf.nn.sparse_softmax_cross_entropy_with_logits
dense_op = tf.nn.softmax_cross_entropy_with_logits_v2


def rows_of(labels, logits):
    return sparse_op(labels=labels, logits=logits)


def mean(labels, logits):
    return tf.reduce_mean(rows_of(labels, logits))


def picked(labels, like):
    return tf.one_hot(labels, 5, dtype=like.dtype)


# Equal, each in two ways -----------------------------------------------------------------------


def log_softmax_and_gather(labels, logits):
    positions = tf.stack([tf.range(tf.size(labels)), labels], axis=1)
    return -tf.reduce_mean(tf.gather_nd(tf.nn.log_softmax(logits), positions))


def logsumexp_less_logit(y_true, scores):
    indices = tf.stack([tf.range(tf.shape(scores)[0]), y_true], axis=-1)
    return tf.reduce_mean(tf.reduce_logsumexp(scores, axis=-1) - tf.gather_nd(scores, indices))


def shifted_by_hand(z, y):
    z -= tf.stop_gradient(tf.reduce_max(z, axis=1, keepdims=True))
    positions = tf.stack([tf.range(tf.size(y)), y], axis=1)
    losses = tf.log(tf.reduce_sum(tf.exp(z), axis=1)) - tf.gather_nd(z, positions)
    return tf.reduce_sum(losses) / tf.cast(tf.size(losses), z.dtype)


def op_on_one_hot_rows(labels, logits):
    return tf.reduce_mean(dense_op(labels=picked(labels, logits), logits=logits))


def op_given_one_hot_rows(logits, onehot_labels):
    return tf.reduce_mean(dense_op(labels=onehot_labels, logits=logits))


def of_tf1xent(labels, logits):
    losses = tf1xent.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(losses)


def reduced_by_tf_losses(labels, logits):
    return tf.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)


def reduced_by_a_second_function(labels, logits):
    return tf.losses.compute_weighted_loss(rows_of(labels, logits))


def weighted_by_tf_losses(labels, logits, weights):
    return tf.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits, weights=weights)


def weighted_by_hand(logits, labels, sample_weight):
    losses = rows_of(labels, logits) * sample_weight
    count = tf.reduce_sum(tf.cast(tf.not_equal(sample_weight, 0), losses.dtype))
    safe = tf.where(tf.equal(count, 0), tf.ones_like(count), count)
    return tf.reduce_sum(losses) / safe


def masked_by_selection(labels, logits, mask):
    losses = tf.boolean_mask(rows_of(labels, logits), mask)
    return tf.reduce_sum(losses) / tf.cast(tf.size(losses), losses.dtype)


def masked_logits_by_selection(labels, logits, mask):
    rows = rows_of(tf.boolean_mask(labels, mask), tf.boolean_mask(logits, mask))
    return tf.reduce_mean(rows)


def masked_by_multiplication(labels, logits, mask):
    mask = tf.cast(mask, logits.dtype)
    return tf.reduce_sum(rows_of(labels, logits) * mask) / tf.reduce_sum(mask)


def masked_as_in_gcn(preds, labels, mask):
    losses = dense_op(labels=labels, logits=preds)
    mask = tf.cast(mask, losses.dtype)
    mask /= tf.reduce_mean(mask)
    return tf.reduce_mean(losses * mask)


def masked_dense(preds, labels, mask):
    mask = tf.cast(mask, preds.dtype)
    losses = dense_op(labels=labels, logits=preds)
    return tf.reduce_sum(losses * mask) / tf.reduce_sum(mask)


def soft_op(labels, logits):
    return dense_op(labels=tf.stop_gradient(labels), logits=logits)


def soft_by_hand(soft_labels, logits):
    labels = tf.stop_gradient(soft_labels)
    normalizer = tf.reduce_logsumexp(logits, axis=1, keepdims=True)
    return tf.reduce_sum(labels * (normalizer - logits), axis=1)


def unguarded_log(probs, y):
    return -tf.reduce_sum(y * tf.log(probs))


def unguarded_log_by_row(y, p):
    return tf.reduce_sum(-tf.reduce_sum(tf.multiply(y, tf.log(p)), axis=[1]))


def clipped_log(logits, labels):
    p = tf.clip_by_value(tf.nn.softmax(logits), 1e-10, 1.0)
    return tf.reduce_mean(-tf.reduce_sum(picked(labels, p) * tf.log(p), axis=1))


def epsilon_in_log(logits, labels, epsilon=1e-7):
    p = tf.nn.softmax(logits)
    return -tf.reduce_mean(tf.reduce_sum(picked(labels, p) * tf.log(p + epsilon), axis=1))


def sigmoid_op(labels, logits):
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))


def sigmoid_by_softplus(targets, scores):
    losses = targets * tf.nn.softplus(-scores) + (1 - targets) * tf.nn.softplus(scores)
    return tf.reduce_sum(losses) / tf.cast(tf.size(losses), losses.dtype)


def class_weights_by_gather(labels, logits, class_weights):
    return tf.reduce_mean(rows_of(labels, logits) * tf.gather(class_weights, labels))


def class_weights_by_one_hot(labels, logits, class_weights):
    weights = tf.reduce_sum(picked(labels, logits) * class_weights, axis=1)
    return tf.reduce_sum(weights * rows_of(labels, logits)) / tf.cast(tf.size(labels), logits.dtype)


def sequences(logits, targets, weights):
    """As tf.contrib.seq2seq.sequence_loss with its defaults; [B, T] rows."""
    losses = sparse_op(labels=targets, logits=logits)
    return tf.reduce_sum(losses * weights) / (tf.reduce_sum(weights) + 1e-12)


def sequences_flat(logits, targets, weights):
    flat = sparse_op(labels=tf.reshape(targets, [-1]), logits=tf.reshape(logits, [-1, 5]))
    weights = tf.reshape(weights, [-1])
    return tf.reduce_sum(flat * weights) / (tf.reduce_sum(weights) + 1e-12)


def smoothed(labels, logits):
    return tf.reduce_mean(dense_op(labels=picked(labels, logits) * 0.9 + 0.02, logits=logits))


def smoothed_in_two_terms(labels, logits):
    normalizer = tf.reduce_logsumexp(logits, axis=1)
    uniform = normalizer - tf.reduce_mean(logits, axis=1)
    return tf.reduce_mean(0.9 * rows_of(labels, logits) + 0.1 * uniform)


def focal(labels, logits):
    losses = rows_of(labels, logits)
    return tf.reduce_mean((1 - tf.exp(-losses)) ** 2 * losses)


def focal_of_log_probabilities(labels, logits):
    logs = tf.reduce_sum(picked(labels, logits) * tf.nn.log_softmax(logits), axis=1)
    return -tf.reduce_mean(tf.square(1 - tf.exp(logs)) * logs)


ONE_HOT, SOFT, MULTI_HOT = dict(labels="one-hot"), dict(labels="soft"), dict(labels="multi-hot")
PREDS_ARE_LOGITS = dict(ONE_HOT, inputs=["preds=logits"])
# A class ruled out by -inf: 0 * -inf is NaN where labels are multiplied.
FINITE = dict(without=["-inf"])
# (BEFORE, AFTER, options); equal in both directions but where BEFORE alone is wrong.
EQUAL = [
    (mean, mean, {}),
    (mean, log_softmax_and_gather, {}),
    (mean, logsumexp_less_logit, {}),
    (shifted_by_hand, mean, {}),
    (op_on_one_hot_rows, mean, {}),
    (mean, op_given_one_hot_rows, FINITE),
    (mean, of_tf1xent, {}),
    (reduced_by_tf_losses, reduced_by_a_second_function, {}),
    (weighted_by_tf_losses, weighted_by_hand, {}),
    (masked_by_selection, masked_logits_by_selection, {}),
    (masked_by_multiplication, masked_logits_by_selection, {}),
    (masked_as_in_gcn, masked_dense, PREDS_ARE_LOGITS),
    (soft_op, soft_by_hand, SOFT),
    (unguarded_log, unguarded_log_by_row, ONE_HOT),
    (clipped_log, mean, {}),
    (epsilon_in_log, mean, {}),
    (sigmoid_op, sigmoid_by_softplus, MULTI_HOT),
    (class_weights_by_gather, class_weights_by_one_hot, {}),
    (sequences, sequences_flat, dict(time_steps=3)),
    (smoothed, smoothed_in_two_terms, FINITE),
    (focal, focal_of_log_probabilities, FINITE),
    (rows_of, lambda y, z: -tf.reduce_sum(picked(y, z) * tf.nn.log_softmax(z), 1), FINITE),
]


# Different ---------------------------------------------------------------------------------------


def negated(labels, logits):
    return -mean(labels, logits)


def by_wrong_denominator(labels, logits, mask):
    mask = tf.cast(mask, logits.dtype)
    return tf.reduce_mean(rows_of(labels, logits) * mask)


def sum_for_mean(labels, logits):
    return tf.reduce_sum(rows_of(labels, logits))


def by_fixed_batch_size(labels, logits):
    return tf.reduce_sum(rows_of(labels, logits)) / 6


def without_stop_gradient(labels, logits):
    return dense_op(labels=labels, logits=logits)


def swapped(labels, logits):
    return dense_op(labels=logits, logits=tf.stop_gradient(labels))


def in_float32(labels, logits):
    return tf.cast(mean(labels, tf.cast(logits, tf.float32)), logits.dtype)


def masked_nan_let_through(labels, logits, mask):
    mask = tf.cast(mask, logits.dtype)
    return tf.reduce_sum(rows_of(labels, logits) * mask) / tf.reduce_sum(mask)


def masked_with_care(labels, logits, mask):
    """Rows that are not finite are replaced before the loss sees them."""
    mask = tf.cast(mask, tf.bool)
    columns = tf.tile(mask[:, None], [1, 5])
    losses = rows_of(labels, tf.where(columns, logits, tf.zeros_like(logits)))
    mask = tf.cast(mask, logits.dtype)
    return tf.reduce_sum(losses * mask) / tf.maximum(tf.reduce_sum(mask), 1)


def softmax_twice(labels, logits):
    return mean(labels, tf.nn.softmax(logits))


def class_weights_on_logits(labels, logits, class_weights):
    return tf.reduce_mean(rows_of(labels, logits * class_weights))


def clipped_logits(labels, logits):
    return mean(labels, tf.clip_by_value(logits, -40.0, 40.0))


def along_the_batch(labels, logits):
    return tf.reduce_mean(tf.reduce_sum(-picked(labels, logits) * tf.nn.log_softmax(logits, 0), 1))


def broadcast(labels, logits, weights):
    return tf.reduce_mean(rows_of(labels, logits)[:, None] * weights)


def weighted_mean(labels, logits, weights):
    return tf.reduce_mean(rows_of(labels, logits) * weights)


def weighted_by_their_sum(labels, logits, weights):
    return tf.reduce_sum(rows_of(labels, logits) * weights) / tf.reduce_sum(weights)


def sigmoid_with_an_edge(labels, logits):
    """The textbook's stable form; abs and maximum have the wrong derivatives at logits of 0."""
    softplus = tf.log1p(tf.exp(-tf.abs(logits)))
    return tf.reduce_mean(tf.maximum(logits, 0) - logits * labels + softplus)


def in_bits(labels, logits):
    return mean(labels, logits) / np.log(2.0)


def first_class_left_out(labels, logits):
    counts = tf.cast(labels > 0, logits.dtype)
    return tf.reduce_mean(rows_of(labels, logits) * counts)


def with_weight_decay(labels, logits):
    return mean(labels, logits) + 1e-6 * tf.nn.l2_loss(logits)


def gradient_stopped_at_weights(labels, logits):
    losses = rows_of(labels, logits)
    return tf.reduce_mean(tf.stop_gradient((1 - tf.exp(-losses)) ** 2) * losses)


def nan_for_no_rows(labels, logits, weights):
    return tf.reduce_sum(rows_of(labels, logits) * weights) / tf.reduce_sum(
        tf.cast(tf.not_equal(weights, 0), logits.dtype)
    )


def product_is_wrong(labels, logits):
    """Value and gradient are right; the gradient is a constant to what differentiates it again."""

    @tf.custom_gradient
    def loss(z):
        gradient = tf.stop_gradient(tf.nn.softmax(z) - picked(labels, z))
        return rows_of(labels, z), lambda upstream: upstream[:, None] * gradient

    return tf.reduce_mean(loss(logits))


DIFFERENT = {
    "a sign": (mean, negated, {}),
    "a denominator": (masked_by_multiplication, by_wrong_denominator, {}),
    "a sum for a mean": (mean, sum_for_mean, {}),
    "a fixed batch size": (mean, by_fixed_batch_size, {}),
    "a missing stop_gradient of labels": (soft_op, without_stop_gradient, SOFT),
    "a stop_gradient of labels": (without_stop_gradient, soft_op, SOFT),
    "a stop_gradient of weights": (focal, gradient_stopped_at_weights, {}),
    "swapped arguments": (soft_op, swapped, SOFT),
    "an epsilon of 1e-7": (mean, epsilon_in_log, {}),
    "an epsilon of 1e-7, in float32 alone": (mean, epsilon_in_log, dict(dtypes=["float32"])),
    "another epsilon": (
        lambda labels, logits: epsilon_in_log(logits, labels, 1e-10),
        clipped_log,
        {},
    ),
    "clipped probabilities": (mean, clipped_log, {}),
    "float32 for float64": (mean, in_float32, {}),
    "a mask that lets NaN through": (masked_with_care, masked_nan_let_through, {}),
    "softmax twice": (mean, softmax_twice, {}),
    "class weights on logits": (class_weights_by_gather, class_weights_on_logits, {}),
    "clipped logits": (mean, clipped_logits, {}),
    "the wrong axis": (mean, along_the_batch, FINITE),
    "weights broadcast against columns": (weighted_mean, broadcast, {}),
    "derivatives at logits of 0": (sigmoid_op, sigmoid_with_an_edge, MULTI_HOT),
    "a mean by the weights": (weighted_mean, weighted_by_their_sum, {}),
    "bits for nats": (mean, in_bits, {}),
    "a class left out": (mean, first_class_left_out, {}),
    "weight decay of 1e-6": (mean, with_weight_decay, {}),
    "losses by row for their mean": (mean, rows_of, {}),
    "NaN for no rows": (weighted_by_hand, nan_for_no_rows, {}),
    "label smoothing": (mean, smoothed, FINITE),
}
# These need a TensorFlow that differentiates its own ops twice.
DIFFERENT_PRODUCTS = {
    "a Hessian of zeros": (log_softmax_and_gather, product_is_wrong, {}),
}
