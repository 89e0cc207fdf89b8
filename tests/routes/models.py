"""TF1 programs with models: each returns the loss, its variable and what is to be fed.

All are linear, without a bias, and see one row of the identity matrix per example: the variable,
[batch_size, num_classes], is the logits.
"""

import numpy as np
import tensorflow.compat.v1 as tf

NUM_CLASSES = 4


def _keras_model(loss, labels, activation):
    size = len(labels)
    dense = tf.keras.layers.Dense(
        NUM_CLASSES, activation=activation, use_bias=False, input_shape=(size,)
    )
    model = tf.keras.models.Sequential([dense])
    model.compile(optimizer="sgd", loss=loss)
    feed = {model.inputs[0]: np.eye(size, dtype=np.float32)}
    targets = getattr(model, "_targets", None) or model.targets
    feed[targets[0]] = labels[:, np.newaxis]
    weights = getattr(model, "_feed_sample_weights", None) or model.sample_weights
    feed.update({weight: np.ones(size) for weight in weights if weight is not None})
    return model.total_loss, dense.kernel, feed


def keras_model(labels):
    def loss(labels, logits):
        return tf.keras.backend.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    return _keras_model(loss, labels, None)


def keras_softmax_model(labels):
    model = _keras_model("sparse_categorical_crossentropy", labels, "softmax")
    if any(op.type == "Log" for op in tf.get_default_graph().get_operations()):
        raise NotImplementedError("Keras that finds the logits behind a softmax")
    return model


def estimator(labels):
    size = len(labels)
    classifier = tf.estimator.LinearClassifier(
        [tf.feature_column.numeric_column("x", shape=[size])], n_classes=NUM_CLASSES
    )
    features = {"x": tf.constant(np.eye(size, dtype=np.float32))}
    target = tf.constant(labels[:, np.newaxis])
    spec = classifier.model_fn(features, target, tf.estimator.ModeKeys.TRAIN, classifier.config)
    (kernel,) = [v for v in tf.trainable_variables() if v.shape.as_list() == [size, NUM_CLASSES]]
    return spec.loss, kernel, {}


def hidden_layer_estimator(labels):
    """The loss as a function of the last layer's weights, behind a hidden layer that is linear."""
    size = len(labels)
    classifier = tf.estimator.DNNClassifier(
        [size],
        [tf.feature_column.numeric_column("x", shape=[size])],
        n_classes=NUM_CLASSES,
        activation_fn=None,
    )
    features = {"x": tf.constant(np.eye(size, dtype=np.float32))}
    target = tf.constant(labels[:, np.newaxis])
    spec = classifier.model_fn(features, target, tf.estimator.ModeKeys.TRAIN, classifier.config)
    first, second = [v for v in tf.trainable_variables() if v.shape.ndims == 2]
    tf.add_to_collection("identity", first)
    return spec.loss, second, {}
