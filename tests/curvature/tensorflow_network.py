"""The networks of numpy_network.py as TensorFlow graphs of float64."""

import tensorflow.compat.v1 as tf

import tf1xent


class Graph:
    """A network in the default graph; its variables in the order of the oracle's parameters."""

    def __init__(self, network, parameters, dtype=tf.float64):
        self.network = network
        self.images = tf.placeholder(dtype, [None, network.shapes[0][0]])
        self.labels = tf.placeholder(tf.int64, [None])
        self.variables, values = [], self.images
        layers = network.unpack(parameters)
        for number, (weights, bias) in enumerate(layers):
            with tf.variable_scope(f"layer{number}"):
                pair = [
                    tf.get_variable("weights", initializer=tf.constant(weights, dtype)),
                    tf.get_variable("bias", initializer=tf.constant(bias, dtype)),
                ]
            values = tf.matmul(values, pair[0]) + pair[1]
            if number < len(layers) - 1:
                values = tf.tanh(values)
            self.variables += pair
        self.logits = values
        self.losses = tf1xent.nn.sparse_softmax_cross_entropy_with_logits(
            labels=self.labels, logits=values
        )
        penalty = tf.add_n([tf.reduce_sum(tf.square(x)) for x in self.variables]) / 2
        self.loss = tf.reduce_mean(self.losses) + network.l2 * penalty

    def session(self):
        """Return a session with the parameters."""
        session = tf.Session()
        session.run(tf.global_variables_initializer())
        return session

    def feeds(self, batch_size, images=None, labels=None):
        """Return feed dicts of a batch size that need not divide the data, in their order."""
        if images is None:
            images, labels = self.network.images, self.network.labels
        return [
            {self.images: images[b : b + batch_size], self.labels: labels[b : b + batch_size]}
            for b in range(0, len(images), batch_size)
        ]
