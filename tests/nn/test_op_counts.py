"""How many ops a loss and its first derivative take in a graph.

Ops that are constants, shapes and checks are counted with the others: each costs time when a graph
is built, and programs that unroll loops build many losses. The gradient is counted as it is behind
a mean or a sum, which hand it the cotangent.
"""

import pytest
import tensorflow.compat.v1 as tf

from tests.support.loss_graph import DENSE_V1, DENSE_V2, SPARSE, LossGraph
from tf1xent import _tf, nn

# The most ops, (loss, gradient), by loss and dtype: half adds a cast on either side.
MOST_OPS = {
    (SPARSE, "float32"): (45, 15),
    (SPARSE, "float16"): (47, 17),
    (DENSE_V2, "float32"): (45, 45),
    (DENSE_V2, "float16"): (48, 47),
    (DENSE_V1, "float32"): (45, 30),
}


@pytest.mark.skipif(not hasattr(tf, "where_v2"), reason="TF 1.13 has others for some of the ops")
@pytest.mark.parametrize(
    "shape", [[32, 10], [None, 10], [128, 1000], [None, 1000], [None, 50257]], ids=str
)
@pytest.mark.parametrize("name, dtype", list(MOST_OPS))
def test_a_loss_and_its_gradient_are_few_ops(name, dtype, shape):
    if shape[0] is None and not _tf.CHECKS_COME_FIRST:
        pytest.skip("the number of rows takes a check of its own on this TensorFlow")
    graph = LossGraph(nn, name, dtype, logits_shape=shape)
    with graph.graph.as_default():
        arguments = [op for op in graph.graph.get_operations() if op.type == "Placeholder"]
        loss = len(graph.graph.get_operations()) - len(arguments)
        cotangent = tf.placeholder(dtype, shape[:1])
        before = len(graph.graph.get_operations())
        tf.gradients(graph.loss, graph.logits, grad_ys=cotangent)
        added = graph.graph.get_operations()[before:]
        gradient = sum("grad_ys" not in op.name for op in added)  # TensorFlow's copy of those
    most_loss, most_gradient = MOST_OPS[name, dtype]
    assert loss <= most_loss and gradient <= most_gradient, (loss, gradient)
