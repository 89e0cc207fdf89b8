"""Programs with loops and branches; with control flow v2 where the process has it switched on."""

import tensorflow.compat.v1 as tf

from tests.corpus.data import NUM_CLASSES, digit_strokes
from tests.corpus.models import iris_placeholders
from tests.corpus.recording import trained_and_saved


def tagger(folder):
    """A recurrent network in a while loop; logits [batch_size, max_time, num_classes]."""
    values = digit_strokes()
    features = tf.placeholder(tf.float64, [None, None, 8], name="features")
    tags = tf.placeholder(tf.int64, [None, None], name="tags")
    lengths = tf.placeholder(tf.int32, [None], name="lengths")
    cell = tf.nn.rnn_cell.BasicRNNCell(6)
    states, _ = tf.nn.dynamic_rnn(cell, features, sequence_length=lengths, dtype=tf.float64)
    logits = tf.layers.dense(states, NUM_CLASSES, name="logits")
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tags, logits=logits)
    mask = tf.sequence_mask(lengths, tf.shape(tags)[1], dtype=tf.float64)
    loss = tf.divide(tf.reduce_sum(losses * mask), tf.reduce_sum(mask), name="loss")
    feeds = list(zip([features, tags, lengths], values))
    trained_and_saved(folder, loss, feeds, [logits, losses])


def loop(folder):
    """A sum of losses, each computed in its turn of a while loop, at a temperature of its own."""
    features, labels, feeds = iris_placeholders()
    logits = tf.layers.dense(features, NUM_CLASSES, name="logits")

    def body(turn, total):
        temperature = 1 + tf.cast(turn, tf.float64)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=labels, logits=logits / temperature, name="xent"
        )
        return turn + 1, total + tf.reduce_mean(losses)

    start = (tf.constant(0), tf.constant(0.0, tf.float64))
    _, total = tf.while_loop(lambda turn, _: turn < 3, body, start)
    loss = tf.identity(total, name="loss")
    trained_and_saved(folder, loss, feeds, [logits])


def cond(folder):
    """A loss that a placeholder chooses: cross-entropy in one branch, squares in the other."""
    features, labels, feeds = iris_placeholders()
    by_entropy = tf.placeholder(tf.bool, [], name="by_entropy")
    logits = tf.layers.dense(features, NUM_CLASSES, name="logits")

    def entropy():
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=labels, logits=logits, name="xent"
            )
        )

    def squares():
        targets = tf.one_hot(labels, NUM_CLASSES, dtype=tf.float64)
        return tf.reduce_mean(tf.square(logits - targets))

    loss = tf.identity(tf.cond(by_entropy, entropy, squares), name="loss")
    trained_and_saved(folder, loss, feeds + [(by_entropy, True)], [logits])


def branch_in_loop(folder):
    """A while loop whose turns add a cross-entropy or squares, by turns."""
    features, labels, feeds = iris_placeholders()
    logits = tf.layers.dense(features, NUM_CLASSES, name="logits")

    def body(turn, total):
        def entropy():
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=labels, logits=logits, name="xent"
            )
            return tf.reduce_mean(losses) * total

        def squares():
            return total + tf.reduce_mean(tf.square(logits))

        return turn + 1, tf.cond(tf.equal(turn % 2, 0), squares, entropy)

    start = (tf.constant(0), tf.constant(1.0, tf.float64))
    _, total = tf.while_loop(lambda turn, _: turn < 3, body, start)
    loss = tf.identity(total, name="loss")
    trained_and_saved(folder, loss, feeds, [logits])
