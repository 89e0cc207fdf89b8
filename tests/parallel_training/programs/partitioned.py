"""Variables in parts, one on each of two parameter servers, and one worker.

To start as `parameter_servers.py`, with two addresses in --ps_hosts. With --sharded the parts of
the last layer stay where they are, and only numbers of the size of the batch come to the worker.
"""

import cluster
import digits
import numpy as np
import tensorflow.compat.v1 as tf

tf.app.flags.DEFINE_boolean("sharded", False, "Whether to leave the last layer on the servers.")
FLAGS = cluster.FLAGS


def partitioned(name, value):
    """Returns a variable with a part of its rows on each parameter server."""
    partitioner = tf.fixed_size_partitioner(cluster.spec().num_tasks("ps"))
    return tf.get_variable(name, initializer=tf.constant(value), partitioner=partitioner)


def main(_):
    server = cluster.server()
    setter = tf.train.replica_device_setter(
        worker_device=cluster.worker_device(), cluster=cluster.spec()
    )
    with tf.device(setter):
        images = tf.placeholder(tf.float32, [None, digits.PIXELS])
        labels = tf.placeholder(tf.int64, [None])
        hidden_w = partitioned("hidden_w", digits.initial(digits.PIXELS, digits.HIDDEN))
        hidden_b = tf.get_variable("hidden_b", initializer=tf.zeros([digits.HIDDEN]))
        hidden = tf.nn.tanh(tf.matmul(images, hidden_w) + hidden_b)
        # By class, as embeddings are.
        weights = partitioned("weights", digits.initial(digits.HIDDEN, digits.CLASSES).T)
        biases = partitioned("biases", np.zeros([digits.CLASSES], np.float32))
        if FLAGS.sharded:
            import tf1xent

            loss = tf1xent.losses.linear_softmax_cross_entropy(
                labels, hidden, weights, biases, transpose_weights=True
            )
        else:
            logits = tf.matmul(hidden, weights, transpose_b=True) + biases
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            loss = tf.reduce_mean(losses)
        global_step = tf.train.get_or_create_global_step()
        train_op = tf.train.GradientDescentOptimizer(0.5).minimize(loss, global_step)
        variables = [part for whole in (hidden_w, [hidden_b], weights, biases) for part in whole]
        directions, products = [], []
        if FLAGS.curvature:
            directions = [digits.direction(variable) for variable in variables]
            gradients = tf.gradients(loss, variables)
            products = tf.gradients(gradients, variables, grad_ys=directions)

    losses = {}
    with tf.train.MonitoredTrainingSession(server.target, config=cluster.config()) as session:
        for step in range(FLAGS.steps):
            feed = dict(zip([images, labels], digits.batch(step)))
            losses[step] = session.run([loss, train_op], feed)[0]
        feed = dict(zip([images, labels], digits.for_curvature()))
        values, products = session.run([variables, products], feed)
    places = [variable.device for variable in variables]
    digits.save(FLAGS.results, losses, values, directions, products, places=places)


if __name__ == "__main__":
    tf.disable_eager_execution()
    tf.app.run()
