"""A program of TF 1.x's eager mode with gradients overridden: what its tapes answer, as text.

python -m tests.routes.eager_override
"""

import numpy as np
import tensorflow
import tensorflow.compat.v1 as tf

import tf1xent
from tests.routes import table


def second_derivative(function):
    logits = tf.constant(table.LOGITS)
    with tensorflow.GradientTape() as outer:
        outer.watch(logits)
        with tensorflow.GradientTape() as inner:
            inner.watch(logits)
            loss = tf.reduce_sum(function(logits))
        gradient = inner.gradient(loss, logits)
        along = tf.reduce_sum(gradient * table.VECTORS[0])
    return outer.gradient(along, logits).numpy()


def sparse(logits):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=table.LABELS, logits=logits)


def dense(logits):
    return tf.nn.softmax_cross_entropy_with_logits_v2(labels=table.ONE_HOT, logits=logits)


def main():
    tf.enable_eager_execution()
    with tf1xent.patched():
        patched = second_derivative(sparse)
    tf1xent.override_gradients()
    print("dense close:", np.allclose(second_derivative(dense), patched, atol=1e-6))
    try:
        print("sparse close:", np.allclose(second_derivative(sparse), patched, atol=1e-6))
    except Exception as error:  # its type is what is asked for
        print("sparse raises:", type(error).__mro__[1].__name__, error)


if __name__ == "__main__":
    main()
