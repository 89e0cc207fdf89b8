"""Asynchronous training with parameter servers: each worker has its own graph, and a Supervisor.

HOSTS="--ps_hosts=localhost:2220 --worker_hosts=localhost:2221,localhost:2222"
python parameter_servers.py $HOSTS --job_name=ps --task_index=0 &
python parameter_servers.py $HOSTS --job_name=worker --task_index=0 &
python parameter_servers.py $HOSTS --job_name=worker --task_index=1
"""

import time

import cluster
import digits
import tensorflow.compat.v1 as tf

FLAGS = cluster.FLAGS


def model(images):
    """Returns the logits and the variables."""
    hidden_w = tf.Variable(digits.initial(digits.PIXELS, digits.HIDDEN), name="hidden_w")
    hidden_b = tf.Variable(tf.zeros([digits.HIDDEN]), name="hidden_b")
    hidden = tf.nn.tanh(tf.nn.xw_plus_b(images, hidden_w, hidden_b))
    softmax_w = tf.Variable(digits.initial(digits.HIDDEN, digits.CLASSES), name="softmax_w")
    softmax_b = tf.Variable(tf.zeros([digits.CLASSES]), name="softmax_b")
    logits = tf.nn.xw_plus_b(hidden, softmax_w, softmax_b)
    return logits, [hidden_w, hidden_b, softmax_w, softmax_b]


def main(_):
    server = cluster.server()
    setter = tf.train.replica_device_setter(
        worker_device=cluster.worker_device(), cluster=cluster.spec()
    )
    with tf.device(setter):
        images = tf.placeholder(tf.float32, [None, digits.PIXELS])
        labels = tf.placeholder(tf.int64, [None])
        logits, variables = model(images)
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        )
        global_step = tf.train.get_or_create_global_step()
        train_op = tf.train.GradientDescentOptimizer(0.5).minimize(loss, global_step)
        directions, products = [], []
        if FLAGS.curvature and FLAGS.task_index == 0:
            directions = [digits.direction(variable) for variable in variables]
            gradients = tf.gradients(loss, variables)
            products = tf.gradients(gradients, variables, grad_ys=directions)

    supervisor = tf.train.Supervisor(
        is_chief=FLAGS.task_index == 0, logdir=None, global_step=global_step, recovery_wait_secs=0.1
    )
    workers = cluster.spec().num_tasks("worker")
    losses = {}
    with supervisor.managed_session(server.target, config=cluster.config()) as session:
        while True:
            step = session.run(global_step)
            if step >= FLAGS.steps:
                break
            # One worker after the other, so that the loss of a step is always the same.
            if step % workers != FLAGS.task_index:
                time.sleep(0.05)
                continue
            feed = dict(zip([images, labels], digits.batch(step)))
            losses[step] = session.run([loss, train_op], feed)[0]
        feed = dict(zip([images, labels], digits.for_curvature()))
        values, products = session.run([variables, products], feed)
    places = [variable.device for variable in variables]
    digits.save(FLAGS.results, losses, values, directions, products, places=places)


if __name__ == "__main__":
    tf.disable_eager_execution()
    tf.app.run()
