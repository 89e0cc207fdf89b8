"""Synchronous training: SyncReplicasOptimizer averages the gradients of all workers.

To start as `parameter_servers.py`.
"""

import time

import cluster
import digits
import tensorflow.compat.v1 as tf

FLAGS = cluster.FLAGS


def model(images):
    """Returns the logits and the variables."""
    hidden_w = tf.Variable(digits.initial(digits.PIXELS, digits.HIDDEN))
    hidden_b = tf.Variable(tf.zeros([digits.HIDDEN]))
    softmax_w = tf.Variable(digits.initial(digits.HIDDEN, digits.CLASSES))
    softmax_b = tf.Variable(tf.zeros([digits.CLASSES]))
    logits = tf.nn.tanh(images @ hidden_w + hidden_b) @ softmax_w + softmax_b
    return logits, [hidden_w, hidden_b, softmax_w, softmax_b]


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
        targets = tf.one_hot(labels, digits.CLASSES)
        loss = tf.reduce_mean(
            tf.nn.softmax_cross_entropy_with_logits_v2(labels=targets, logits=logits)
        )
        optimizer = tf.train.SyncReplicasOptimizer(
            tf.train.GradientDescentOptimizer(0.5),
            replicas_to_aggregate=workers,
            total_num_replicas=workers,
        )
        global_step = tf.train.get_or_create_global_step()
        train_op = optimizer.minimize(loss, global_step)
        # How often any worker has made a step.
        made = tf.get_variable("made", [], tf.int64, tf.zeros_initializer(), trainable=False)
        count = tf.assign_add(made, 1, use_locking=True)
        directions, products = [], []
        if FLAGS.curvature and FLAGS.task_index == 0:
            directions = [digits.direction(variable) for variable in variables]
            gradients = tf.gradients(loss, variables)
            products = tf.gradients(gradients, variables, grad_ys=directions)

    def wait_for_all(steps):
        # A fast worker could give two of the gradients of a step, and a slow one none.
        while session.run(made) < steps * workers:
            time.sleep(0.05)

    # Without tokens to begin with, all workers have to be there for the first step.
    hooks = [optimizer.make_session_run_hook(is_chief, num_tokens=0)]
    if not is_chief:
        cluster.wait_for_chief(server.target)
    losses = {}
    with tf.train.MonitoredTrainingSession(
        server.target,
        is_chief,
        hooks=hooks,
        config=cluster.config(),
        max_wait_secs=60,
        # At the end the optimizer's thread waits for gradients that do not come.
        stop_grace_period_secs=1,
    ) as session:
        for step in range(FLAGS.steps):
            wait_for_all(step)
            feed = dict(zip([images, labels], digits.batch(step * workers + FLAGS.task_index)))
            losses[step] = session.run([loss, train_op], feed)[0]
            session.run(count)
        wait_for_all(FLAGS.steps)
        steps = session.run(global_step)
        feed = dict(zip([images, labels], digits.for_curvature()))
        values, products = session.run([variables, products], feed)
    digits.save(FLAGS.results, losses, values, directions, products, global_step=steps)


if __name__ == "__main__":
    tf.disable_eager_execution()
    tf.app.run()
