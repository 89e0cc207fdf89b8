"""What several replicas of a tf.distribute strategy compute together."""

import contextlib

import tensorflow.compat.v1 as tf


def across_replicas(compute, variables):
    """Returns ``compute(*tensors)``, built once, of the variables' sums over all replicas.

    Without a strategy the tensors are the values of the variables themselves.
    """

    def merged(strategy, *variables_of_all):
        with _outside_the_step(strategy):
            return compute(*[tf.convert_to_tensor(variable) for variable in variables_of_all])

    return tf.distribute.get_replica_context().merge_call(merged, args=tuple(variables))


@contextlib.contextmanager
def _outside_the_step(strategy):
    """Builds outside of the loop that some strategies wrap around their training steps, so that a
    value is not computed at every step."""
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
