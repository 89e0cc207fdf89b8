"""A loss of tf1xent with options in a MonitoredTrainingSession, whose chief has tf1xent's hooks.

To start as `parameter_servers.py`.
"""

import time

import cluster
import digits
import numpy as np
import tensorflow.compat.v1 as tf

import tf1xent
from tf1xent.curvature import CurvatureHook
from tf1xent.diagnostics import LossDoctorHook

tf.app.flags.DEFINE_integer("bad_step", -1, "In which step a pixel is NaN.")
tf.app.flags.DEFINE_boolean("spectrum", False, "Whether to measure the largest eigenvalue.")
tf.app.flags.DEFINE_boolean("sync", False, "Whether gradients of all workers are averaged.")
FLAGS = cluster.FLAGS


def model(images):
    """Returns the logits and the variables."""
    hidden_w = tf.Variable(digits.initial(digits.PIXELS, digits.HIDDEN), name="hidden_w")
    hidden_b = tf.Variable(tf.zeros([digits.HIDDEN]), name="hidden_b")
    softmax_w = tf.Variable(digits.initial(digits.HIDDEN, digits.CLASSES), name="softmax_w")
    softmax_b = tf.Variable(tf.zeros([digits.CLASSES]), name="softmax_b")
    logits = tf.nn.tanh(images @ hidden_w + hidden_b) @ softmax_w + softmax_b
    return logits, [hidden_w, hidden_b, softmax_w, softmax_b]


def batch(step):
    """Returns a batch, in which some labels do not count, and perhaps a pixel is bad."""
    images, labels = digits.batch(step)
    images, labels = images.copy(), labels.copy()
    labels[::5] = -1
    if step == FLAGS.bad_step:
        images[6, 20] = np.nan
    return images, labels


def main(_):
    server = cluster.server()
    is_chief, workers = FLAGS.task_index == 0, cluster.spec().num_tasks("worker")
    setter = tf.train.replica_device_setter(
        worker_device=cluster.worker_device(), cluster=cluster.spec()
    )
    with tf.device(setter):
        images = tf.placeholder(tf.float32, [None, digits.PIXELS])
        labels = tf.placeholder(tf.int64, [None])
        logits, variables = model(images)
        loss = tf1xent.losses.sparse_softmax_cross_entropy(
            labels, logits, ignore_label=-1, label_smoothing=0.1
        )
        global_step = tf.train.get_or_create_global_step()
        optimizer = tf.train.GradientDescentOptimizer(0.5)
        if FLAGS.sync:
            optimizer = tf.train.SyncReplicasOptimizer(optimizer, workers, workers)
        train_op = optimizer.minimize(loss, global_step)
        directions, products = [], []
        if FLAGS.curvature and FLAGS.task_index == 0:
            directions = [digits.direction(variable) for variable in variables]
            gradients = tf.gradients(loss, variables)
            products = tf.gradients(gradients, variables, grad_ys=directions)
        # How often any worker has made a step.
        made = tf.get_variable("made", [], tf.int64, tf.zeros_initializer(), trainable=False)
        count = tf.assign_add(made, 1, use_locking=True)

    hooks = []
    if FLAGS.sync:
        hooks.append(optimizer.make_session_run_hook(is_chief, num_tokens=0))
    feed = dict(zip([images, labels], digits.for_curvature()))
    doctor = LossDoctorHook(loss, train_op, summary_every=1)
    # At the beginning and at the end.
    spectrum = CurvatureHook(loss, variables, [feed], every_steps=FLAGS.steps)
    if is_chief:
        hooks += [doctor, spectrum] if FLAGS.spectrum else [doctor]
    else:
        cluster.wait_for_chief(server.target)
    losses = {}
    with tf.train.MonitoredTrainingSession(
        server.target,
        is_chief,
        hooks=hooks,
        config=cluster.config(),
        max_wait_secs=60,
        stop_grace_period_secs=1,
    ) as session:
        for step in range(FLAGS.task_index, FLAGS.steps, workers):
            # One worker after the other, or all together.
            wanted = step // workers * workers if FLAGS.sync else step
            while session.run(made) < wanted:
                time.sleep(0.05)
            of_step = dict(zip([images, labels], batch(step)))
            losses[step] = session.run([loss, train_op], of_step)[0]
            session.run(count)
        while session.run(made) < FLAGS.steps:
            time.sleep(0.05)
        values, products = session.run([variables, products], feed)
    for diagnosis in doctor.diagnoses:
        print(diagnosis)
    digits.save(
        FLAGS.results,
        losses,
        values,
        directions,
        products,
        diagnoses=[f"{found.step}: {found.cause}" for found in doctor.diagnoses],
        measured_at=[found.step for found in spectrum.results],
        eigenvalues=[found.eigenvalues.values[0] for found in spectrum.results],
    )


if __name__ == "__main__":
    tf.disable_eager_execution()
    tf.app.run()
