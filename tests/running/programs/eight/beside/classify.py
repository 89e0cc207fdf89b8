"""Reads data that lie beside the script, with the queues of TF 1.x."""

import os

import numpy as np
import settings
import tensorflow as tf

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS = os.path.join(HERE, "data", "rows.csv")


def batch():
    files = tf.train.string_input_producer([ROWS], shuffle=False)
    _, line = tf.TextLineReader().read(files)
    columns = tf.decode_csv(line, record_defaults=[[0.0], [0.0], [0.0], [0]])
    return tf.train.batch([tf.stack(columns[:3]), columns[3]], batch_size=16)


with tf.gfile.GFile(os.path.join(os.path.relpath(HERE), "data", "names.txt")) as names:
    print("classes:", names.read().split())
features, labels = batch()
kernel = tf.get_variable(
    "kernel", [3, settings.NUM_CLASSES], initializer=tf.constant_initializer(0.0)
)
logits = tf.matmul(features, kernel)
loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
train_op = tf.train.AdagradOptimizer(0.5).minimize(loss)
results = {"features": features, "logits": logits}
if "HESSIAN_TO" in os.environ:
    results["hessian"] = tf.hessians(loss, kernel)[0]

with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    coordinator = tf.train.Coordinator()
    threads = tf.train.start_queue_runners(session, coordinator)
    for step in range(settings.STEPS):
        _, value = session.run([train_op, loss])
        print(f"step {step}: {value:.4f}")
    if "HESSIAN_TO" in os.environ:
        np.savez(os.environ["HESSIAN_TO"], **session.run(results))
    coordinator.request_stop()
    coordinator.join(threads)
