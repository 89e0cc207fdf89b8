"""Trains by hand for a few steps on random numbers, and looks for the second derivative."""

import json

import tensorflow.compat.v1 as tf

with tf.Graph().as_default() as graph, tf.Session() as session:
    tf.set_random_seed(7)
    inputs = tf.random_normal([5, 3])
    weights = tf.get_variable("weights", [3, 4], initializer=tf.random_uniform_initializer(-1, 1))
    logits = tf.matmul(inputs, weights)
    sparse = tf.losses.sparse_softmax_cross_entropy([0, 3, 1, 2, 0], logits)
    dense = tf.losses.softmax_cross_entropy(tf.one_hot([1, 0, 2, 3, 1], 4), logits)
    noise = tf.random_uniform([3])
    train = tf.train.GradientDescentOptimizer(0.5).minimize(sparse + dense)
    dropped = tf.nn.dropout(tf.ones([4]), rate=0.5)
    names = [op.name for op in graph.get_operations()]
    session.run(tf.global_variables_initializer())
    fetched = [session.run([sparse, dense, noise, dropped, train])[:4] for _ in range(3)]
    gradient = tf.gradients(sparse, weights)[0]
    try:
        second = tf.gradients(tf.reduce_sum(gradient**2), weights)[0]
        second = "there" if second is not None else "none"
    except LookupError:
        second = "refused"
seen = [[value.tolist() for value in step] for step in fetched]
print(json.dumps({"names": names, "seen": seen, "second": second}))
