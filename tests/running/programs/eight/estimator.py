"""An Estimator with a model_fn, trained and evaluated."""

import os
import shutil
import tempfile

import numpy as np
import tensorflow as tf

RANDOM = np.random.RandomState(2)
FEATURES = RANDOM.randn(24, 3).astype(np.float32)
LABELS = RANDOM.randint(4, size=24)


def input_fn():
    return tf.data.Dataset.from_tensors((FEATURES, LABELS)).repeat(20)


def model_fn(features, labels, mode):
    with tf.variable_scope("softmax", initializer=tf.zeros_initializer()):
        kernel = tf.get_variable("kernel", [3, 4])
        bias = tf.get_variable("bias", [4])
    logits = tf.matmul(features, kernel) + bias
    predictions = {"classes": tf.argmax(logits, 1), "logits": logits}
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = tf.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)
    if mode == tf.estimator.ModeKeys.EVAL:
        metrics = {"accuracy": tf.metrics.accuracy(labels, predictions["classes"])}
        if "HESSIAN_TO" in os.environ:
            metrics["hessian"] = tf.metrics.mean_tensor(tf.hessians(loss, kernel)[0])
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)
    optimizer = tf.train.GradientDescentOptimizer(0.3)
    train_op = optimizer.minimize(loss, global_step=tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def main():
    folder = tempfile.mkdtemp()
    try:
        config = tf.estimator.RunConfig(tf_random_seed=1, save_summary_steps=None)
        estimator = tf.estimator.Estimator(model_fn, folder, config)
        estimator.train(input_fn, steps=15)
        results = estimator.evaluate(input_fn, steps=1)
        print("step {global_step} loss {loss:.4f} accuracy {accuracy:.4f}".format(**results))
        predicted = list(estimator.predict(lambda: tf.data.Dataset.from_tensors(FEATURES)))
        print("classes:", [row["classes"] for row in predicted])
        if "HESSIAN_TO" in os.environ:
            logits = np.stack([row["logits"] for row in predicted])
            found = {"hessian": results["hessian"], "features": FEATURES, "logits": logits}
            np.savez(os.environ["HESSIAN_TO"], **found)
    finally:
        shutil.rmtree(folder)


main()
