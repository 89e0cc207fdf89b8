"""A TF2 program: eager code, tf.function, Keras. Each function returns losses."""

import tensorflow as tf


def nn_sparse(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def nn_dense(logits, labels):
    return tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def compat_v1_sparse(logits, labels):
    nn = tf.compat.v1.nn
    return nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


@tf.function
def inner_function(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def compat_v1_losses(logits, labels):
    return tf.compat.v1.losses.sparse_softmax_cross_entropy(labels, logits)


def keras_loss_sparse(logits, labels):
    return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)


def keras_loss_dense(logits, labels):
    return tf.keras.losses.CategoricalCrossentropy(from_logits=True)(labels, logits)


def keras_function(logits, labels):
    loss = tf.keras.losses.sparse_categorical_crossentropy
    return loss(labels, logits, from_logits=True)


def keras_ops_sparse(logits, labels):
    return tf.keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def keras_ops_dense(logits, labels):
    return tf.keras.ops.categorical_crossentropy(labels, logits, from_logits=True)


def keras_compiled_model(logits, labels):
    """What a compiled model computes as its loss in `fit`."""
    return model.compute_loss(x=None, y=labels[:, tf.newaxis], y_pred=logits, sample_weight=None)


model = tf.keras.Sequential([tf.keras.layers.Dense(4)])
model.compile("sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
