"""A metric's sums in variables that run on from batch to batch.

They are float64, so that no count is lost past 2**24 of them (`tf.metrics.mean` keeps float32), and
local variables of the collections that those of `tf.metrics` are in.
"""

from tf1xent._tf import tf
from tf1xent.metrics.examples import as_examples


def stream(metric, function, name, arguments, collections):
    """The pair (value, update_op) of `function`, streaming_*, added to the two collections."""
    if tf.executing_eagerly():
        raise RuntimeError(
            f"{function} is not supported when eager execution is enabled. Call it in a tf.Graph, "
            f"or {function[len('streaming_') :]} on each batch."
        )
    with tf.variable_scope(name, function[len("streaming_") :], arguments[:2]):
        examples = as_examples(function, *arguments)
        batch_sums = metric.sums(examples)
        variables = [
            _sum_variable(batch_sum.shape, variable_name)
            for batch_sum, variable_name in zip(batch_sums, ("total", "count"))
        ]
        value = tf.identity(metric.value(examples, *variables), name="value")
        # A batch that fails in one of its sums is added to none.
        with tf.control_dependencies(batch_sums):
            updated = [tf.assign_add(*pair) for pair in zip(variables, batch_sums)]
        update_op = tf.identity(metric.value(examples, *updated), name="update_op")
    for names, tensor in zip(collections, (value, update_op)):
        if names:
            tf.add_to_collections(names, tensor)
    return value, update_op


def _sum_variable(shape, name):
    return tf.Variable(
        lambda: tf.zeros(shape, tf.float64),
        trainable=False,
        collections=[tf.GraphKeys.LOCAL_VARIABLES, tf.GraphKeys.METRIC_VARIABLES],
        name=name,
    )
