"""Asynchronous training in a MonitoredTrainingSession: a chief and another worker.

To start as `parameter_servers.py`.
"""

import time

import cluster
import digits
import tensorflow.compat.v1 as tf

FLAGS = cluster.FLAGS


def model(images):
    """Returns the logits."""
    with tf.variable_scope("hidden", initializer=tf.zeros_initializer()):
        kernel = digits.initial(digits.PIXELS, digits.HIDDEN)
        kernel = tf.get_variable("kernel", initializer=kernel)
        hidden = tf.nn.tanh(images @ kernel + tf.get_variable("bias", [digits.HIDDEN]))
    with tf.variable_scope("softmax", initializer=tf.zeros_initializer()):
        kernel = digits.initial(digits.HIDDEN, digits.CLASSES)
        kernel = tf.get_variable("kernel", initializer=kernel)
        return hidden @ kernel + tf.get_variable("bias", [digits.CLASSES])


class AtTheEnd(tf.train.SessionRunHook):
    """Runs something once more when training is over."""

    def __init__(self, fetches, feed):
        self._fetches, self._feed = fetches, feed

    def end(self, session):
        self.found = session.run(self._fetches, self._feed)


def main(_):
    server = cluster.server()
    is_chief = FLAGS.task_index == 0
    setter = tf.train.replica_device_setter(
        worker_device=cluster.worker_device(), cluster=cluster.spec()
    )
    with tf.device(setter):
        images = tf.placeholder(tf.float32, [None, digits.PIXELS])
        labels = tf.placeholder(tf.int64, [None])
        loss = tf.losses.sparse_softmax_cross_entropy(labels, model(images))
        global_step = tf.train.get_or_create_global_step()
        train_op = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss, global_step)
        variables = tf.trainable_variables()
        directions, products = [], []
        if FLAGS.curvature and FLAGS.task_index == 0:
            directions = [digits.direction(variable) for variable in variables]
            gradients = tf.gradients(loss, variables)
            products = tf.gradients(gradients, variables, grad_ys=directions)

    feed = dict(zip([images, labels], digits.for_curvature()))
    last = AtTheEnd([variables, products], feed)
    hooks = [tf.train.StopAtStepHook(last_step=FLAGS.steps), last]
    workers = cluster.spec().num_tasks("worker")
    if not is_chief:
        cluster.wait_for_chief(server.target)
    losses = {}
    with tf.train.MonitoredTrainingSession(
        server.target, is_chief, hooks=hooks, config=cluster.config(), max_wait_secs=60
    ) as session:
        while not session.should_stop():
            step = session.run(global_step)
            # One worker after the other, so that the loss of a step is always the same.
            if step % workers != FLAGS.task_index or session.should_stop():
                time.sleep(0.05)
                continue
            feed = dict(zip([images, labels], digits.batch(step)))
            losses[step] = session.run([loss, train_op], feed)[0]
    digits.save(FLAGS.results, losses, last.found[0], directions, last.found[1])


if __name__ == "__main__":
    tf.disable_eager_execution()
    tf.app.run()
