"""A metric's sums in variables that run on from batch to batch.

They are float64, so that no count is lost past 2**24 of them (`tf.metrics.mean` keeps float32), and
else as those of `tf.metrics`: local variables of its collections, which under a tf.distribute
strategy each replica adds its own batches to, and whose value is that of their sums over all.
"""

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.metrics.examples import as_examples


def stream(metric, function, name, arguments, collections):
    """The pair (value, update_op) of `function`, streaming_*, added to the two collections."""
    if tf.executing_eagerly():
        raise RuntimeError(
            f"{function} is not supported when eager execution is enabled. Call it in a tf.Graph, "
            f"or {function[len('streaming_') :]} on each batch."
        )
    if tf.distribute.get_replica_context() is None:
        raise ValueError(
            f"{function}: `strategy` must run it in its replicas, got a call outside of them. Call "
            "it in the function given to strategy.run or call_for_each_replica."
        )
    with tf.variable_scope(name, function[len("streaming_") :], arguments[:2]):
        examples = as_examples(function, *arguments)
        batch_sums = metric.sums(examples)
        variables = [
            _sum_variable(batch_sum.shape, variable_name)
            for batch_sum, variable_name in zip(batch_sums, ("total", "count"))
        ]

        def whole_value(*totals):
            value = tf.identity(metric.value(examples, *totals), name="value")
            _collect(collections[0], value)
            return value

        value = _tf.across_replicas(whole_value, variables)
        # A batch that fails in one of its sums is added to none.
        with tf.control_dependencies(batch_sums):
            updated = [tf.assign_add(*pair) for pair in zip(variables, batch_sums)]
        update_op = tf.identity(metric.value(examples, *updated), name="update_op")
    _collect(collections[1], update_op)
    return value, update_op


def _collect(names, tensor):
    if names:
        tf.add_to_collections(names, tensor)


def _sum_variable(shape, name):
    return tf.Variable(
        lambda: tf.zeros(shape, tf.float64),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
        collections=[tf.GraphKeys.LOCAL_VARIABLES, tf.GraphKeys.METRIC_VARIABLES],
        name=name,
    )
