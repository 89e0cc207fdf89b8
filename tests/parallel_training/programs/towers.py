"""One graph over all tasks: a tower on each worker, shared variables, averaged gradients.

Of the workers, task 0 is the client too; the others serve. To start as `parameter_servers.py`.
"""

import cluster
import digits
import tensorflow.compat.v1 as tf

FLAGS = cluster.FLAGS


def model(images):
    """Returns the logits."""
    with tf.variable_scope("model", reuse=tf.AUTO_REUSE), tf.device("/job:ps/task:0"):
        hidden_w = digits.initial(digits.PIXELS, digits.HIDDEN)
        hidden_w = tf.get_variable("hidden_w", initializer=hidden_w)
        hidden_b = tf.get_variable("hidden_b", initializer=tf.zeros([digits.HIDDEN]))
        softmax_w = digits.initial(digits.HIDDEN, digits.CLASSES)
        softmax_w = tf.get_variable("softmax_w", initializer=softmax_w)
        softmax_b = tf.get_variable("softmax_b", initializer=tf.zeros([digits.CLASSES]))
    return tf.nn.tanh(images @ hidden_w + hidden_b) @ softmax_w + softmax_b


def average(of_towers):
    """Returns the mean over the towers of a list of tensors from each."""
    return [tf.add_n(list(parts)) / len(parts) for parts in zip(*of_towers)]


def main(_):
    server = cluster.server()
    if FLAGS.task_index > 0:
        server.join()
    images = tf.placeholder(tf.float32, [None, digits.PIXELS])
    labels = tf.placeholder(tf.int64, [None])
    optimizer = tf.train.GradientDescentOptimizer(0.5)
    towers = cluster.spec().num_tasks("worker")
    losses, gradients, products = [], [], []
    shares = zip(tf.split(images, towers), tf.split(labels, towers))
    for index, (tower_images, tower_labels) in enumerate(shares):
        with tf.device(f"/job:worker/task:{index}"), tf.name_scope(f"tower_{index}"):
            tower_losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=tower_labels, logits=model(tower_images)
            )
            losses.append(tf.reduce_mean(tower_losses))
            variables = tf.trainable_variables()
            gradients.append([gradient for gradient, _ in optimizer.compute_gradients(losses[-1])])
            directions = [digits.direction(variable) for variable in variables]
            if FLAGS.curvature:
                products.append(tf.gradients(gradients[-1], variables, grad_ys=directions))
    with tf.device("/job:ps/task:0"):
        loss = tf.add_n(losses) / towers
        train_op = optimizer.apply_gradients(zip(average(gradients), variables))
        product = average(products)

    found = {}
    with tf.Session(server.target) as session:
        session.run(tf.global_variables_initializer())
        for step in range(FLAGS.steps):
            feed = dict(zip([images, labels], digits.batch(step)))
            found[step] = session.run([loss, train_op], feed)[0]
        feed = dict(zip([images, labels], digits.for_curvature()))
        values, product = session.run([variables, product], feed)
    places = [tensor.device for tensor in losses]
    digits.save(FLAGS.results, found, values, directions, product, places=places)


if __name__ == "__main__":
    tf.disable_eager_execution()
    tf.app.run()
