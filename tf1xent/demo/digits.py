"""Trains a small network on scikit-learn's handwritten digits, then computes its Hessian.

An ordinary TensorFlow 1 program: a graph, placeholders, a session, an optimizer, and at the end
tf.hessians of the loss. Run it by itself to see what TensorFlow alone computes.
"""

from types import SimpleNamespace
from typing import Any, Tuple

import numpy as np
import tensorflow.compat.v1 as tf
from sklearn.datasets import load_digits
from tqdm import tqdm

NUM_PIXELS = 64
NUM_HIDDEN = 16
NUM_CLASSES = 10
NUM_TEST = 450
BATCH_SIZE = 32


def load_data() -> Tuple[Tuple[np.ndarray, np.ndarray], Tuple[np.ndarray, np.ndarray]]:
    """Returns ((images, labels) to train on, (images, labels) to test on), pixels in [0, 1]."""
    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    images, labels = digits.data[order] / 16.0, digits.target[order].astype(np.int32)
    return (images[NUM_TEST:], labels[NUM_TEST:]), (images[:NUM_TEST], labels[:NUM_TEST])


def build_network(dtype: Any = tf.float32) -> SimpleNamespace:
    """Adds the network to the default graph; returns its tensors and variables by name."""
    images = tf.placeholder(dtype, [None, NUM_PIXELS], name="images")
    labels = tf.placeholder(tf.int32, [None], name="labels")

    def variable(name: str, shape: Any, initializer: Any) -> Any:
        return tf.get_variable(name, shape, dtype, initializer)

    glorot = tf.glorot_uniform_initializer()
    hidden_weights = variable("hidden_weights", [NUM_PIXELS, NUM_HIDDEN], glorot)
    hidden_bias = variable("hidden_bias", [NUM_HIDDEN], tf.zeros_initializer())
    output_weights = variable("output_weights", [NUM_HIDDEN, NUM_CLASSES], glorot)
    output_bias = variable("output_bias", [NUM_CLASSES], tf.zeros_initializer())

    hidden = tf.tanh(tf.matmul(images, hidden_weights) + hidden_bias)
    logits = tf.matmul(hidden, output_weights) + output_bias
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    predictions = tf.argmax(logits, 1, output_type=tf.int32)
    return SimpleNamespace(
        images=images,
        labels=labels,
        variables=[hidden_weights, hidden_bias, output_weights, output_bias],
        hidden_weights=hidden_weights,
        loss=tf.reduce_mean(losses),
        accuracy=tf.reduce_mean(tf.cast(tf.equal(predictions, labels), tf.float32)),
    )


def train(
    session: Any, network: SimpleNamespace, images: np.ndarray, labels: np.ndarray, epochs: int
) -> None:
    """Trains by mini-batches, with a progress bar."""
    step = tf.train.AdamOptimizer(0.01).minimize(network.loss)
    session.run(tf.global_variables_initializer())
    random = np.random.RandomState(0)
    batches_per_epoch = len(labels) // BATCH_SIZE
    with tqdm(total=epochs * batches_per_epoch, desc="training", unit="batch") as progress:
        for _ in range(epochs):
            order = random.permutation(len(labels))
            for batch in np.array_split(order, batches_per_epoch):
                feed = {network.images: images[batch], network.labels: labels[batch]}
                _, loss = session.run([step, network.loss], feed)
                progress.update()
            progress.set_postfix(loss=f"{loss:.4f} nats", refresh=False)


def main(epochs: int = 30) -> SimpleNamespace:
    """Trains, prints the test accuracy, and returns it with the Hessian and the variables."""
    (images, labels), (test_images, test_labels) = load_data()
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(0)
        network = build_network()
        train(session, network, images, labels, epochs)
        test_feed = {network.images: test_images, network.labels: test_labels}
        accuracy = session.run(network.accuracy, test_feed)
        print(f"test accuracy {accuracy:.1%}", flush=True)

        (hessian,) = tf.hessians(network.loss, network.hidden_weights)
        feed = {network.images: images, network.labels: labels}
        hessian, variables = session.run([hessian, network.variables], feed)
        size = NUM_PIXELS * NUM_HIDDEN
        hessian = hessian.reshape(size, size)
        print(f"Hessian of the {size} hidden weights, trace {np.trace(hessian):.4f} nats")
        return SimpleNamespace(accuracy=accuracy, hessian=hessian, variables=variables)


if __name__ == "__main__":
    main()
