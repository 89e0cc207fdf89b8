"""A TF1 program that looks TensorFlow's functions up when it calls them. Each returns losses."""

import tensorflow
import tensorflow.compat.v1 as tf

NUM_CLASSES = 4


def nn_sparse(logits, labels):
    return tensorflow.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def nn_dense(logits, labels):
    return tensorflow.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def nn_dense_v2(logits, labels):
    return tensorflow.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)


def compat_v1_sparse(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def compat_v1_dense(logits, labels):
    return tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def compat_v1_dense_v2(logits, labels):
    return tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)


def compat_v2_sparse(logits, labels):
    nn = tensorflow.compat.v2.nn
    return nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def compat_v2_dense(logits, labels):
    nn = tensorflow.compat.v2.nn
    return nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def losses_sparse(logits, labels):
    return tf.losses.sparse_softmax_cross_entropy(labels, logits)


def losses_dense(logits, labels):
    return tf.losses.softmax_cross_entropy(labels, logits)


def keras_backend_sparse(logits, labels):
    return tf.keras.backend.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def keras_backend_dense(logits, labels):
    return tf.keras.backend.categorical_crossentropy(labels, logits, from_logits=True)


def keras_loss_sparse(logits, labels):
    return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)


def keras_loss_dense(logits, labels):
    return tf.keras.losses.CategoricalCrossentropy(from_logits=True)(labels, logits)


def distributions_categorical(logits, labels):
    return -tf.distributions.Categorical(logits=logits).log_prob(labels)


def sampled_softmax(logits, labels):
    """All classes are sampled and count once; the weights are such that the logits come out."""
    return tf.nn.sampled_softmax_loss(
        weights=tf.eye(NUM_CLASSES),
        biases=tf.zeros([NUM_CLASSES]),
        labels=labels[:, tf.newaxis],
        inputs=logits,
        num_sampled=NUM_CLASSES,
        num_classes=NUM_CLASSES,
        sampled_values=(
            tf.range(NUM_CLASSES, dtype=tf.int64),
            tf.ones_like(labels[:, tf.newaxis], tf.float32),
            tf.ones([NUM_CLASSES]),
        ),
    )


def contrib_sequence_loss(logits, labels):
    weights = tf.ones_like(labels, tf.float32)
    return tensorflow.contrib.seq2seq.sequence_loss(
        logits[tf.newaxis], labels[tf.newaxis], weights[tf.newaxis]
    )


def contrib_legacy_sequence_loss(logits, labels):
    legacy_seq2seq = tensorflow.contrib.legacy_seq2seq
    return legacy_seq2seq.sequence_loss([logits], [labels], [tf.ones_like(labels, tf.float32)])


def contrib_losses(logits, labels):
    return tensorflow.contrib.losses.sparse_softmax_cross_entropy(logits, labels)


def estimator_head(logits, labels):
    head = tf.estimator.MultiClassHead(NUM_CLASSES)
    return head.loss(labels=labels[:, tf.newaxis], logits=logits, features={})


def contrib_estimator_head(logits, labels):
    head = tensorflow.contrib.estimator.multi_class_head(NUM_CLASSES)
    spec = head.create_estimator_spec(
        features={},
        mode=tf.estimator.ModeKeys.EVAL,
        labels=labels[:, tf.newaxis],
        logits=logits,
    )
    return spec.loss


def raw_op(logits, labels):
    labels = tf.cast(labels, tf.int64)
    losses = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(features=logits, labels=labels)
    return losses[0]


def raw_op_dense(logits, labels):
    return tf.raw_ops.SoftmaxCrossEntropyWithLogits(features=logits, labels=labels)[0]


def generated_op(logits, labels):
    from tensorflow.python.ops import gen_nn_ops

    return gen_nn_ops.sparse_softmax_cross_entropy_with_logits(logits, labels)[0]


def generated_op_dense(logits, labels):
    from tensorflow.python.ops import gen_nn_ops

    return gen_nn_ops.softmax_cross_entropy_with_logits(logits, labels)[0]
