"""tf.distribute.MirroredStrategy with two replicas: here on two CPUs that TensorFlow makes of one.

python mirrored.py
"""

import inspect

import digits
import tensorflow.compat.v1 as tf

flags = tf.app.flags
flags.DEFINE_integer("steps", 16, "How many steps.")
flags.DEFINE_boolean("curvature", False, "Whether to multiply the Hessian with a direction.")
flags.DEFINE_string("results", "results.npz", "The file that is written.")
FLAGS = flags.FLAGS
REPLICAS = 2


def two_devices():
    """Makes two devices of the CPU, and returns the options of a session that has them."""
    configure = getattr(getattr(tf, "config", None), "set_logical_device_configuration", None)
    if configure is not None:  # TensorFlow 1.x has only the options
        (cpu,) = tf.config.list_physical_devices("CPU")
        configure(cpu, [tf.config.LogicalDeviceConfiguration()] * REPLICAS)
    return tf.ConfigProto(device_count={"CPU": REPLICAS}, allow_soft_placement=True)


def model(images):
    """Returns the logits and the variables."""
    hidden_w = tf.get_variable("hw", initializer=digits.initial(digits.PIXELS, digits.HIDDEN))
    hidden_b = tf.get_variable("hb", initializer=tf.zeros([digits.HIDDEN]))
    softmax_w = tf.get_variable("sw", initializer=digits.initial(digits.HIDDEN, digits.CLASSES))
    softmax_b = tf.get_variable("sb", initializer=tf.zeros([digits.CLASSES]))
    logits = tf.nn.tanh(tf.matmul(images, hidden_w) + hidden_b)
    logits = tf.matmul(logits, softmax_w) + softmax_b
    return logits, [hidden_w, hidden_b, softmax_w, softmax_b]


def mean_loss(batch):
    """Returns the loss of a replica, and the variables."""
    images, labels = batch
    with tf.variable_scope("model", reuse=tf.AUTO_REUSE):
        logits, variables = model(images)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(losses), variables


def train(batch):
    """Makes a step of a replica, and returns its loss."""
    loss, _ = mean_loss(batch)
    optimizer = tf.train.GradientDescentOptimizer(0.5)
    with tf.control_dependencies([optimizer.minimize(loss)]):
        return tf.identity(loss)


def curvature(batch):
    """Returns the products of the Hessian of a replica's loss, one for each variable."""
    loss, variables = mean_loss(batch)
    gradients = tf.gradients(loss, variables)
    directions = [digits.direction(variable) for variable in variables]
    return tf.gradients(gradients, variables, grad_ys=directions)


def main(_):
    config = two_devices()
    strategy = tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(REPLICAS)])

    def mean(values):
        has_axis = "axis" in inspect.signature(strategy.reduce).parameters  # not 1.13
        return strategy.reduce(
            tf.distribute.ReduceOp.MEAN, values, **({"axis": None} if has_axis else {})
        )

    def batches(arrays, size):
        data = tf.data.Dataset.from_tensor_slices(arrays).repeat().batch(size)
        return strategy.make_dataset_iterator(data)

    with strategy.scope():
        training = batches((digits.IMAGES, digits.LABELS), digits.BATCH)
        loss = mean(strategy.experimental_run(train, training))
        iterators = [training]
        variables = tf.trainable_variables()
        directions, products = [], []
        if FLAGS.curvature:
            directions = [digits.direction(variable) for variable in variables]
            iterators.append(batches(digits.for_curvature(), len(digits.for_curvature()[0])))
            of_replicas = strategy.experimental_run(curvature, iterators[-1])
            products = [mean(product) for product in of_replicas]

    losses = {}
    with tf.Session(config=config) as session:
        session.run([tf.global_variables_initializer(), *[i.initialize() for i in iterators]])
        for step in range(FLAGS.steps):
            losses[step] = session.run(loss)
        values, products = session.run([variables, products])
    digits.save(FLAGS.results, losses, values, directions, products)


if __name__ == "__main__":
    tf.disable_eager_execution()
    tf.app.run()
