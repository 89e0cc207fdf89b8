"""Estimates for each layer are those of the diagonal blocks."""

import functools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.curvature.numpy_network import Network, digits
from tests.curvature.tensorflow_network import Graph
from tf1xent.curvature import HessianOperator
from tf1xent.curvature.eigenvalues import top_eigenvalues
from tf1xent.curvature.layers import per_layer
from tf1xent.curvature.trace import trace


def test_blocks_of_the_hessian():
    network = Network([64, 4, 10], *digits(30))
    parameters = network.initial()
    hessian = network.matrix(parameters)
    blocks = {"layer0": hessian[:260, :260], "layer1": hessian[260:, 260:]}
    with tf.Graph().as_default():
        graph = Graph(network, parameters)
        with graph.session() as session:
            operator = HessianOperator(session, graph.loss, graph.variables, graph.feeds(20))
            traces = per_layer(operator, functools.partial(trace, num_products=300))
            values = per_layer(operator, lambda block: top_eigenvalues(block, 2, tol=1e-8).values)
    assert list(traces) == list(values) == ["layer0", "layer1"]
    for layer, block in blocks.items():
        assert traces[layer].value == pytest.approx(np.trace(block), rel=1e-10)
        eigenvalues = np.linalg.eigvalsh(block)
        largest = eigenvalues[np.argsort(-np.abs(eigenvalues))][:2]
        np.testing.assert_allclose(values[layer], largest, rtol=1e-8)
