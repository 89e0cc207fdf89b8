"""Estimates for each layer are those of the diagonal blocks."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.curvature.numpy_network import Network, digits
from tests.curvature.tensorflow_network import Graph
from tf1xent.curvature import HessianOperator
from tf1xent.curvature.estimates.eigenvalues import top_eigenvalues
from tf1xent.curvature.estimates.layers import per_layer
from tf1xent.curvature.estimates.trace import trace


def test_blocks_of_the_hessian():
    network = Network([64, 1, 10], *digits(30))
    parameters = network.initial()
    hessian = network.matrix(parameters)
    blocks = {"layer0": hessian[:65, :65], "layer1": hessian[65:, 65:]}
    with tf.Graph().as_default():
        graph = Graph(network, parameters)
        with graph.session() as session:
            operator = HessianOperator(session, graph.loss, graph.variables, graph.feeds(20))
            found = per_layer(
                operator, lambda block: (trace(block, 100), top_eigenvalues(block, 2, tol=1e-8))
            )
    assert list(found) == ["layer0", "layer1"]
    for layer, block in blocks.items():
        of_trace, of_values = found[layer]
        assert of_trace.value == pytest.approx(np.trace(block), rel=1e-10)
        eigenvalues = np.linalg.eigvalsh(block)
        largest = eigenvalues[np.argsort(-np.abs(eigenvalues))][:2]
        np.testing.assert_allclose(of_values.values, largest, rtol=1e-8)
