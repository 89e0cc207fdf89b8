"""Second-order MAML: the outer gradient goes through an inner step of gradient descent.

    python tools/examples/maml_step.py

A task is to tell three digits apart after five pictures of each. The inner step, from weights w
that all tasks share, is a part of the graph, and the outer loss is that of the changed weights on
other pictures of the same digits (Finn et al., 2017):

    fast(w) = w - rate * gradient of support(w)
    outer gradient = g - rate * H g       g: gradient of query(fast), H: Hessian of support(w)

On TensorFlow 1.x the cross-entropy op has no H. `tf1xent.patched()` supplies it, and the program is
what it would be for any other loss. First-order MAML leaves H out; the last lines compare.
"""

from types import SimpleNamespace

import numpy as np
import tensorflow.compat.v1 as tf
from sklearn.datasets import load_digits

import tf1xent
from tf1xent.curvature import hessian_vector_product

NUM_TASKS, NUM_WAYS, NUM_SUPPORT, NUM_QUERY = 2, 3, 5, 10
NUM_HIDDEN, RATE, NUM_TRAINING_PICTURES = 32, 0.5, 1200


def logits_of(pictures, weights):
    """The network with any weights: those that all tasks share, or a task's own."""
    w1, b1, w2, b2 = weights
    return tf.matmul(tf.tanh(tf.matmul(pictures, w1) + b1), w2) + b2


def loss_of(logits, labels):
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(losses)


def build():
    """Adds a batch of tasks to the default graph."""
    shapes = {"w1": [64, NUM_HIDDEN], "b1": [NUM_HIDDEN], "w2": [NUM_HIDDEN, NUM_WAYS]}
    shapes["b2"] = [NUM_WAYS]
    draws = tf.random_normal_initializer(stddev=0.1, seed=0)
    weights = [tf.get_variable(name, shapes[name], tf.float64, draws) for name in shapes]
    support, query = (
        [
            tf.placeholder(tf.float64, [NUM_TASKS, None, 64]),
            tf.placeholder(tf.int64, [NUM_TASKS, None]),
        ]
        for _ in range(2)
    )
    losses, hits, first_order, products = [], [], [], []
    for task in range(NUM_TASKS):
        inner_loss = loss_of(logits_of(support[0][task], weights), support[1][task])
        slopes = tf.gradients(inner_loss, weights)
        fast = [weight - RATE * slope for weight, slope in zip(weights, slopes)]
        logits = logits_of(query[0][task], fast)
        losses.append(loss_of(logits, query[1][task]))
        hits.append(tf.equal(tf.argmax(logits, axis=1), query[1][task]))
        first_order.append(tf.gradients(losses[-1], fast))
        products.append(hessian_vector_product(inner_loss, weights, first_order[-1]))
    outer_loss = tf.add_n(losses) / NUM_TASKS
    return SimpleNamespace(
        weights=weights,
        inputs=[*support, *query],
        outer_loss=outer_loss,
        accuracy=tf.reduce_mean(tf.cast(hits, tf.float64)),
        gradient=tf.gradients(outer_loss, weights),
        first_order=[tf.add_n(parts) / NUM_TASKS for parts in zip(*first_order)],
        products=[tf.add_n(parts) / NUM_TASKS for parts in zip(*products)],
    )


def draw_tasks(pictures, labels, random):
    """Returns the arrays of `inputs`: a batch of tasks, support before query."""
    tasks = []
    for _ in range(NUM_TASKS):
        chosen = random.choice(10, NUM_WAYS, replace=False)
        rows = [
            random.permutation(np.flatnonzero(labels == digit))[: NUM_SUPPORT + NUM_QUERY]
            for digit in chosen
        ]
        parts = [row[:NUM_SUPPORT] for row in rows], [row[NUM_SUPPORT:] for row in rows]
        task = []
        for part in parts:
            task += [pictures[np.concatenate(part)], np.repeat(np.arange(NUM_WAYS), len(part[0]))]
        tasks.append(task)
    return [np.stack(arrays) for arrays in zip(*tasks)]


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays])


def main(num_iterations=200):
    """Trains across tasks; prints and returns accuracies and gradients, these as flat vectors."""
    pictures, labels = load_digits(return_X_y=True)
    pictures, random = pictures / 16.0, np.random.RandomState(0)
    with tf.Graph().as_default(), tf.Session() as session, tf1xent.patched():
        model = build()
        train = tf.train.AdamOptimizer(0.01).apply_gradients(zip(model.gradient, model.weights))
        session.run(tf.global_variables_initializer())

        def feed(part):
            return dict(zip(model.inputs, draw_tasks(pictures[part], labels[part], random)))

        def accuracy():
            batches = [feed(slice(NUM_TRAINING_PICTURES, None)) for _ in range(20)]
            return np.mean([session.run(model.accuracy, batch) for batch in batches])

        before = accuracy()
        for _ in range(num_iterations):
            session.run(train, feed(slice(NUM_TRAINING_PICTURES)))
        after, batch = accuracy(), feed(slice(NUM_TRAINING_PICTURES))
        fetched = model.weights, model.gradient, model.first_order, model.products
        weights, gradient, first_order, products = map(flat, session.run(fetched, batch))
    difference = np.linalg.norm(gradient - first_order) / np.linalg.norm(gradient)
    error = np.linalg.norm(gradient - (first_order - RATE * products)) / np.linalg.norm(gradient)
    print(f"three digits after five new pictures of each: accuracy {before:.3f}")
    print(f"the same after training across {num_iterations} batches of tasks: {after:.3f}")
    print(f"outer gradient: differs from g - rate H g by {error:.0e}, from g by {difference:.0%}")
    return SimpleNamespace(
        before=before,
        after=after,
        weights=weights,
        inputs=list(batch.values()),
        gradient=gradient,
        first_order=first_order,
    )


if __name__ == "__main__":
    main()
