"""Builds losses in processes that multiprocessing starts, and in its own."""

import multiprocessing
import os
import sys

import tensorflow.compat.v1 as tf


def build(number):
    """Build a number of losses, without running them."""
    with tf.Graph().as_default():
        for _ in range(number):
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=[[1.0, 0.0]])
    print(os.getpid(), number, flush=True)


if __name__ == "__main__":
    for number, method in enumerate(("fork", "spawn"), 2):
        process = multiprocessing.get_context(method).Process(target=build, args=(number,))
        process.start()
        process.join()
    if os.fork() == 0:
        build(4)
        sys.exit()
    os.wait()
    build(1)  # TF 1.13 aborts a process that drops a graph from before the fork
