"""A script with flags: softmax regression in a session."""

import os

import numpy as np
import tensorflow as tf
from tensorflow import flags

flags.DEFINE_float("learning_rate", 0.5, "Learning rate.")
flags.DEFINE_integer("steps", 20, "Number of steps.")
FLAGS = flags.FLAGS


def main(argv):
    random = np.random.RandomState(0)
    images = random.randn(24, 4).astype(np.float32)
    digits = random.randint(3, size=24)

    x = tf.placeholder(tf.float32, [None, 4], name="x")
    y = tf.placeholder(tf.int64, [None], name="y")
    kernel = tf.Variable(tf.zeros([4, 3]), name="kernel")
    bias = tf.Variable(tf.zeros([3]), name="bias")
    logits = tf.matmul(x, kernel) + bias
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
    accuracy = tf.reduce_mean(tf.to_float(tf.equal(tf.argmax(logits, 1), y)))
    train_op = tf.train.GradientDescentOptimizer(FLAGS.learning_rate).minimize(loss)

    print("arguments:", argv[1:])
    feed = {x: images, y: digits}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for step in range(FLAGS.steps):
            _, value = session.run([train_op, loss], feed)
            if step % 5 == 0:
                print(f"step {step} loss {value:.4f}")
        print("loss {:.4f} accuracy {:.4f}".format(*session.run([loss, accuracy], feed)))
        if "HESSIAN_TO" in os.environ:
            (hessian,) = tf.hessians(loss, kernel)
            hessian, scores = session.run([hessian, logits], feed)
            np.savez(os.environ["HESSIAN_TO"], hessian=hessian, features=images, logits=scores)
    tf.logging.info("done")


if __name__ == "__main__":
    tf.app.run()
