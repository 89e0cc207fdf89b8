"""A metric's sums in variables that run on from batch to batch.

They are float64, so that counts stay exact past 2**24 (`tf.metrics.mean` keeps float32). Else they
are as those of `tf.metrics`: local variables in its collections. Under a tf.distribute strategy
each replica adds its own batches, and the value is that of the sums over all replicas.
"""

from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Tensor, TensorShape
from tf1xent.metrics.rows import as_rows


def stream(
    function: str,
    scope: str,
    sums: Callable[..., Sequence[Tensor]],
    value: Callable[..., Tensor],
    arguments: Dict[str, Any],
    own: Mapping[str, int],
) -> Tuple[Tensor, Tensor]:
    """The pair (value, update_op) of a streaming metric, `function`, with those arguments."""
    if tf.executing_eagerly():
        raise RuntimeError(
            f"{function} is not supported when eager execution is enabled. Call it in a tf.Graph, "
            f"or {scope} on each batch."
        )
    if tf.distribute.get_replica_context() is None:
        raise ValueError(
            f"{function}: `strategy` must run it in its replicas, got a call outside of them. Call "
            "it in the function given to strategy.run or call_for_each_replica."
        )
    collections = arguments.pop("metrics_collections"), arguments.pop("updates_collections")
    with tf.variable_scope(arguments.pop("name"), scope, list(arguments.values())[:2]):
        rows = as_rows(function, **arguments)
        batch_sums = sums(rows, **own)
        variables = [
            _sum_variable(batch_sum.shape, variable_name)
            for batch_sum, variable_name in zip(batch_sums, ("total", "count"))
        ]

        def whole_value(*totals: Tensor) -> Tensor:
            whole = tf.identity(value(rows, *totals), name="value")
            _collect(collections[0], whole)
            return whole

        value_so_far = _tf.across_replicas(whole_value, variables)
        # A batch that fails in one of its sums is added to none.
        with tf.control_dependencies(batch_sums):
            updated = [tf.assign_add(*pair) for pair in zip(variables, batch_sums)]
        update_op = tf.identity(value(rows, *updated), name="update_op")
    _collect(collections[1], update_op)
    return value_so_far, update_op


def _collect(names: Optional[Sequence[str]], tensor: Tensor) -> None:
    if names:
        tf.add_to_collections(names, tensor)


def _sum_variable(shape: TensorShape, name: str) -> Any:
    return tf.Variable(
        lambda: tf.zeros(shape, tf.float64),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
        collections=[tf.GraphKeys.LOCAL_VARIABLES, tf.GraphKeys.METRIC_VARIABLES],
        name=name,
    )
