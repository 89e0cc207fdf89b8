"""A program of its own, since op determinism is a process's: losses and gradients, as text.

    python -m tests.math.determinism_program

Op determinism is on: by `enable_op_determinism` where this TensorFlow has it, else by the variable
TF_DETERMINISTIC_OPS, which whoever starts the program sets. Each result is computed twice, in two
graphs and sessions. Prints a line for each: its name, "same" or "differs", and the numbers in hex.
"""

import numpy as np
import tensorflow
import tensorflow.compat.v1 as tf

from tf1xent import losses, nn

RANDOM = np.random.RandomState(5)
ROWS, DIM = 600, 3
# Few classes and many: a value is written and summed in another way for each.
NUM_CLASSES = (10, 300)
LABELS = {c: RANDOM.randint(c, size=ROWS) for c in NUM_CLASSES}
LOGITS = {c: (3 * RANDOM.normal(size=(ROWS, c))).astype(np.float32) for c in NUM_CLASSES}
DISTRIBUTIONS = {c: RANDOM.gamma(0.5, size=(ROWS, c)).astype(np.float32) for c in NUM_CLASSES}
INPUTS = RANDOM.normal(size=(ROWS, DIM)).astype(np.float32)
WEIGHTS = {c: RANDOM.normal(size=(DIM, c)).astype(np.float32) for c in NUM_CLASSES}
SHOWN = 4


def has_switch():
    """Whether this TensorFlow turns op determinism on by a function."""
    experimental = getattr(getattr(tensorflow, "config", None), "experimental", None)
    return hasattr(experimental, "enable_op_determinism")


def sparse(num_classes):
    """Loss and operands of the sparse function."""
    logits = tf.constant(LOGITS[num_classes])
    labels = tf.constant(LABELS[num_classes])
    return nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits), [logits]


def dense(num_classes):
    """Loss and operands of the dense function."""
    logits, labels = tf.constant(LOGITS[num_classes]), tf.constant(DISTRIBUTIONS[num_classes])
    loss = nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)
    return loss, [logits, labels]


def linear(num_classes):
    """Loss and operands of the linear loss, in chunks."""
    inputs, weights = tf.constant(INPUTS), tf.constant(WEIGHTS[num_classes])
    labels = tf.constant(LABELS[num_classes])
    loss = losses.linear_softmax_cross_entropy(
        labels, inputs, weights, chunk_size=num_classes // 2, reduction="none"
    )
    return loss, [inputs, weights]


FUNCTIONS = {"sparse": sparse, "dense": dense, "linear": linear}


def computed(function, num_classes):
    """The loss, and its gradient and Hessian times ones in each operand."""
    with tf.Graph().as_default(), tf.Session() as session:
        loss, operands = function(num_classes)
        gradients = tf.gradients(loss, operands)
        ones = [tf.ones_like(gradient) for gradient in gradients]
        products = tf.gradients(gradients, operands, grad_ys=ones)
        return session.run([loss, *gradients, *products])


def main():
    """Print each result twice computed."""
    if has_switch():
        tensorflow.config.experimental.enable_op_determinism()
    for name, function in FUNCTIONS.items():
        for num_classes in NUM_CLASSES:
            first, second = computed(function, num_classes), computed(function, num_classes)
            for number, (one, other) in enumerate(zip(first, second)):
                state = "same" if one.tobytes() == other.tobytes() else "differs"
                numbers = [float(value).hex() for value in one.ravel()[:SHOWN]]
                print(name, num_classes, number, state, *numbers)


if __name__ == "__main__":
    main()
