"""What losses and their derivatives have in common, a run of both computes once."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tf1xent import nn

LOGITS = np.random.RandomState(0).normal(size=(8, 10)).astype(np.float32)
LABELS = {
    "sparse_softmax_cross_entropy_with_logits": np.arange(8),
    "softmax_cross_entropy_with_logits_v2": np.full([8, 10], 0.1, np.float32),
}


def matrices_of_exponentials(session, fetches):
    """How many a run of some ops computes."""
    metadata = tf.RunMetadata()
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    session.run([tensor.op for tensor in fetches], options=options, run_metadata=metadata)
    nodes = [node for device in metadata.step_stats.dev_stats for node in device.node_stats]
    exponentials = {node.node_name: node for node in nodes if "= Exp(" in node.timeline_label}
    outputs = [output for node in exponentials.values() for output in node.output]
    shapes = [[dim.size for dim in o.tensor_description.shape.dim] for o in outputs]
    return shapes.count([8, 10])


@pytest.mark.parametrize("name", sorted(LABELS))
def test_of_few_classes_the_exponentials(name):
    with tf.Graph().as_default(), tf.Session() as session:
        # Variables: what is constant is folded.
        values = (LABELS[name], LOGITS)
        labels, variable = (tf.Variable(value, use_resource=True) for value in values)
        logits = variable.read_value()
        loss = getattr(nn, name)(labels=labels.read_value(), logits=logits)
        (gradient,) = tf.gradients(loss, logits)
        (product,) = tf.gradients(gradient, logits, grad_ys=logits)
        session.run(tf.global_variables_initializer())
        for fetches in ([loss], [loss, gradient], [loss, product], [loss, gradient, product]):
            assert matrices_of_exponentials(session, fetches) == 1
