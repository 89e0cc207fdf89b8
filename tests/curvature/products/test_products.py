"""Products with vectors against the dense matrices of the oracle, for the losses' options."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.curvature import small_nets as nets
from tests.curvature.dense import error, matrices, placeholders
from tests.oracle import curvature_reference as reference
from tf1xent.curvature.products.empirical_fisher import empirical_fisher_vector_product
from tf1xent.curvature.products.fisher import fisher_vector_product
from tf1xent.curvature.products.gauss_newton import ggn_vector_product
from tf1xent.curvature.products.hessian_products import hessian_vector_product
from tf1xent.losses import Reduction

TOLERANCES = {"float64": 1e-10, "float32": 1e-4}
# A network of the graph, of the oracle, its data and the shapes of its variables.
MLP = nets.mlp, reference.mlp, nets.FEATURES, nets.MLP
LINEAR = nets.linear, reference.linear, nets.FEATURES, nets.LINEAR
EMBEDDING = nets.embedding, reference.embedding, nets.TOKENS, nets.EMBEDDING


def found(network, case, dtype="float64", make=nets.variables):
    """The matrices of the Hessian, GGN, Fisher and empirical Fisher products."""
    graph_network, _, data, shapes = network
    with tf.Graph().as_default(), tf.Session() as session:
        xs = make(nets.arrays(shapes), tf.as_dtype(dtype))
        is_real = np.issubdtype(data.dtype, np.floating)
        logits = graph_network(tf.constant(data, dtype if is_real else tf.int32), *xs)
        loss = nets.loss_of(logits, case)
        rows = nets.loss_of(logits, case, reduction=Reduction.NONE)
        weights = nets.true_weights(case)
        vectors = placeholders(xs)
        products = [
            hessian_vector_product(loss, xs, vectors),
            ggn_vector_product(loss, logits, xs, vectors),
            fisher_vector_product(logits, xs, vectors, weights=weights),
            empirical_fisher_vector_product(rows, xs, vectors, weights=weights != 0),
        ]
        session.run(tf.global_variables_initializer())
        return matrices(session, products, vectors)


def true(network, case):
    """The same matrices by the oracle."""
    _, jet_network, data, shapes = network
    logits = jet_network(data, *reference.variables(nets.arrays(shapes)))
    losses = nets.true_losses(logits, case)
    weights = nets.true_weights(case)
    # The losses of the oracle are over the denominator already.
    denominator = np.count_nonzero(weights)
    return [
        losses.sum(0).second,
        reference.gauss_newton(logits, lambda jet: nets.true_loss(jet, case)),
        reference.fisher(logits, "categorical", weights),
        reference.empirical_fisher(losses * float(denominator), weights != 0),
    ]


# One loss without and one with all options everywhere, options one by one on the newest.
EVERYWHERE = ("sparse", "all")


@pytest.mark.parametrize(
    "case",
    [
        case if case in EVERYWHERE else pytest.param(case, marks=pytest.mark.exhaustive)
        for case in nets.CASES
    ],
)
def test_all_products_are_those_of_the_dense_matrices(case):
    got, want = found(MLP, case), true(MLP, case)
    assert max(error(*pair) for pair in zip(got, want)) <= TOLERANCES["float64"]
    _, ggn, fisher, _ = got
    if case not in nets.FOCAL:  # those are not convex in the logits
        assert np.linalg.eigvalsh(ggn).min() >= -1e-14 * abs(ggn).max()
    if case in nets.LIKELIHOODS:
        assert error(ggn, fisher) <= 1e-14


@pytest.mark.parametrize(
    "case", ["ignored, masked and weighted", pytest.param("all", marks=pytest.mark.exhaustive)]
)
def test_float32(case):
    got, want = found(MLP, case, "float32"), true(MLP, case)
    assert all(matrix.dtype == np.float32 for matrix in got)
    assert max(error(*pair) for pair in zip(got, want)) <= TOLERANCES["float32"]


@pytest.mark.exhaustive
def test_half():
    got, want = found(MLP, "sparse", "half"), true(MLP, "sparse")
    assert max(error(*pair) for pair in zip(got, want)) <= 2e-2


@pytest.mark.parametrize("case", ["ignored, masked and weighted", "class weights and smoothing"])
def test_the_gauss_newton_matrix_of_a_linear_model_is_the_hessian(case):
    hessian, ggn, *rest = found(LINEAR, case)
    assert error(ggn, hessian) <= 1e-14
    want = true(LINEAR, case)
    assert max(error(*pair) for pair in zip([hessian, ggn, *rest], want)) <= 1e-10


def resource_variables(values, dtype):
    return nets.variables(values, dtype, use_resource=True)


def reference_variables(values, dtype):
    return nets.variables(values, dtype, use_resource=False)


def a_partitioned_table(values, dtype):
    """The first of the variables in two parts, as one PartitionedVariable."""

    def part(shape, dtype, partition_info=None):
        first = partition_info.var_offset[0]
        return tf.constant(values[0][first : first + int(shape[0])], dtype)

    table = tf.get_variable(
        "table",
        values[0].shape,
        dtype,
        initializer=part,
        partitioner=tf.fixed_size_partitioner(2),
    )
    return [table] + nets.variables(values[1:], dtype)


@pytest.mark.parametrize("make", [resource_variables, reference_variables, a_partitioned_table])
def test_indexed_slices_and_kinds_of_variables(make):
    case = "ignored, masked and weighted"
    got, want = found(EMBEDDING, case, make=make), true(EMBEDDING, case)
    assert max(error(*pair) for pair in zip(got, want)) <= TOLERANCES["float64"]
