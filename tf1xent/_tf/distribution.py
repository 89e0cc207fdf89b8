"""Values over all replicas of a tf.distribute strategy."""

import contextlib
from typing import Any, Callable, Iterator, List, Optional, Sequence

import tensorflow.compat.v1 as tf

from tf1xent._typing import Tensor


def across_replicas(compute: Callable[..., Tensor], variables: Sequence[Any]) -> Tensor:
    """Returns ``compute(*tensors)``, built once, of the variables' sums over all replicas.

    Without a strategy the tensors are the values of the variables themselves.
    """

    def merged(strategy: Any, *variables_of_all: Any) -> Tensor:
        with _outside_the_step(strategy):
            return compute(*[tf.convert_to_tensor(variable) for variable in variables_of_all])

    return tf.distribute.get_replica_context().merge_call(merged, args=tuple(variables))


@contextlib.contextmanager
def _outside_the_step(strategy: Any) -> Iterator[None]:
    """Builds outside the loop that some strategies wrap around their training steps.

    A value that is built inside would be computed at every step.
    """
    attribute = "_outer_control_flow_context"
    if not hasattr(strategy.extended, attribute):
        yield
        return
    context = getattr(strategy.extended, attribute)
    if context is None:
        with tf.control_dependencies(None):
            yield
        return
    context.Enter()
    try:
        yield
    finally:
        context.Exit()


def partitions(variable: Any) -> Optional[List[int]]:
    """Into how many parts a partitioned variable is cut along each axis; None for anything else."""
    found = getattr(variable, "_get_partitions", None)
    return None if found is None else list(found())


def parts_of_variable(variable: Any) -> List[Any]:
    """Returns a variable as a list; of one with a copy on each replica, or of a partitioned one,
    the parts."""
    by_device = getattr(variable, "_index", None)  # 1.13
    if isinstance(by_device, dict):
        return list(by_device.values())
    for attribute in ("values", "_values"):
        parts = getattr(variable, attribute, None)
        if isinstance(parts, (list, tuple)) and parts:
            return list(parts)
    if not hasattr(variable, "op") and hasattr(variable, "__iter__"):
        return list(variable)
    return [variable]
