"""The curvature of one network by torch.func with SciPy, by curvlinops, and by us.

The weights are the same numbers, in TensorFlow's layout in all three, so that flat vectors and
matrices compare entry by entry. Our operators see the pictures in two unequal batches.
"""

import numpy as np
import pytest
import scipy.sparse.linalg
import tensorflow.compat.v1 as tf
from sklearn.datasets import load_digits

from tests import ROOT
from tests.references.agreement import MISSING
from tf1xent import curvature, nn

torch = pytest.importorskip("torch", reason=MISSING.format("PyTorch"))
curvlinops = pytest.importorskip("curvlinops", reason=MISSING.format("curvlinops"))

NUM_ROWS = 60
SHAPES = {
    "mlp": [(64, 20), (20,), (20, 10), (10,)],
    "cnn": [(3, 3, 1, 4), (4,), (64, 10), (10,)],
}
# What float32 leaves of the agreement that is asked for, and float64 of a formula that is right.
TOLERANCES = {"float32": 1e-4, "float64": 1e-10}
every_network = pytest.mark.parametrize("network", sorted(SHAPES))
every_dtype = pytest.mark.parametrize("dtype", sorted(TOLERANCES))
both_matrices = pytest.mark.parametrize("matrix", ["hessian", "ggn"])


def data(dtype, num_rows):
    """Pictures [rows, 64] and labels of digits."""
    pictures, labels = load_digits(return_X_y=True)
    return (pictures[:num_rows] / 16.0).astype(dtype), labels[:num_rows].astype(np.int64)


def batches(dtype, num_rows):
    """The same in two batches, one twice as large as the other."""
    pictures, labels = data(dtype, num_rows)
    first = 2 * num_rows // 3
    return [(pictures[part], labels[part]) for part in (slice(first), slice(first, None))]


def weights_of(network, dtype):
    """Weights far from a minimum, so that the Hessian is not the Gauss-Newton matrix."""
    random = np.random.RandomState(5)
    fan_in = [np.prod(shape[:-1]) if len(shape) > 1 else 4.0 for shape in SHAPES[network]]
    drawn = [random.normal(0, n**-0.5, s) for n, s in zip(fan_in, SHAPES[network])]
    return [array.astype(dtype) for array in drawn]


# --- Ours -----------------------------------------------------------------------------------------


class Ours:
    """Our operators, in a session of their own; `with` closes it."""

    def __init__(self, network, dtype, num_rows=NUM_ROWS):
        with tf.Graph().as_default():
            inputs = tf.placeholder(dtype, [None, 64])
            targets = tf.placeholder(tf.int64, [None])
            self.variables = [tf.Variable(w) for w in weights_of(network, dtype)]
            self.logits = our_logits(network, inputs, self.variables)
            losses = nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=self.logits)
            self.loss = tf.reduce_mean(losses)
            self.session = tf.Session()
            self.session.run([variable.initializer for variable in self.variables])
        self.feeds = [dict(zip((inputs, targets), batch)) for batch in batches(dtype, num_rows)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.session.close()

    def operator(self, matrix):
        """The HessianOperator or the GGNOperator."""
        if matrix == "hessian":
            return curvature.HessianOperator(self.session, self.loss, self.variables, self.feeds)
        return curvature.GGNOperator(
            self.session, self.loss, self.logits, self.variables, self.feeds
        )


def our_logits(network, inputs, variables):
    """The logits of a network, its images with channels last."""
    first, first_bias, last, last_bias = variables
    if network == "mlp":
        hidden = tf.tanh(tf.matmul(inputs, first) + first_bias)
    else:
        images = tf.reshape(inputs, [-1, 8, 8, 1])
        hidden = tf.tanh(tf.nn.conv2d(images, first, [1, 1, 1, 1], "SAME") + first_bias)
        hidden = tf.nn.avg_pool(hidden, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
        hidden = tf.reshape(hidden, [-1, 64])
    return tf.matmul(hidden, last) + last_bias


# --- PyTorch --------------------------------------------------------------------------------------


class Network(torch.nn.Module):
    """The same network, its weights in TensorFlow's layout."""

    def __init__(self, network, dtype):
        super().__init__()
        self.network = network
        arrays = [torch.tensor(array) for array in weights_of(network, dtype)]
        self.weights = torch.nn.ParameterList(map(torch.nn.Parameter, arrays))

    def forward(self, inputs):
        first, first_bias, last, last_bias = self.weights
        if self.network == "mlp":
            hidden = torch.tanh(inputs @ first + first_bias)
        else:
            images, kernel = inputs.reshape(-1, 1, 8, 8), first.permute(3, 2, 0, 1)
            hidden = torch.tanh(torch.nn.functional.conv2d(images, kernel, first_bias, padding=1))
            hidden = torch.nn.functional.avg_pool2d(hidden, 2)
            hidden = hidden.permute(0, 2, 3, 1).reshape(-1, 64)
        return hidden @ last + last_bias


def torch_func_operator(matrix, network, dtype, num_rows=NUM_ROWS):
    """A SciPy operator of torch.func's products, of all rows at once."""
    model = Network(network, dtype)
    inputs, labels = map(torch.tensor, data(dtype, num_rows))
    values = tuple(weight.detach() for weight in model.weights)
    names = [name for name, _ in model.named_parameters()]

    def logits(*weights):
        return torch.func.functional_call(model, dict(zip(names, weights)), (inputs,))

    def loss_of_logits(logits):
        return torch.nn.functional.cross_entropy(logits, labels)

    def product(flat):
        ends = np.cumsum([value.numel() for value in values])[:-1]
        parts = np.split(np.ravel(flat).astype(dtype), ends)
        tangents = tuple(torch.tensor(p).reshape(v.shape) for p, v in zip(parts, values))
        if matrix == "hessian":
            gradient = torch.func.grad(
                lambda *weights: loss_of_logits(logits(*weights)), argnums=(0, 1, 2, 3)
            )
            _, found = torch.func.jvp(gradient, values, tangents)
        else:
            outputs, tangent = torch.func.jvp(logits, values, tangents)
            slope = torch.func.grad(loss_of_logits)
            _, curved = torch.func.jvp(slope, (outputs,), (tangent,))
            found = torch.func.vjp(logits, *values)[1](curved)
        return np.concatenate([f.numpy().ravel() for f in found]).astype(np.float64)

    size = sum(value.numel() for value in values)
    return scipy.sparse.linalg.LinearOperator((size, size), product, dtype=np.float64)


def curvlinops_operator(matrix, network, dtype, num_rows=NUM_ROWS):
    """curvlinops' operator, of the same batches as ours."""
    model = Network(network, dtype)
    kinds = {
        "hessian": curvlinops.HessianLinearOperator,
        "ggn": curvlinops.GGNLinearOperator,
    }
    operator = kinds[matrix](
        model,
        torch.nn.CrossEntropyLoss(),
        list(model.parameters()),
        [tuple(map(torch.tensor, batch)) for batch in batches(dtype, num_rows)],
        check_deterministic=False,
    )
    return operator.to_scipy(dtype=np.dtype(np.float64))


LIBRARIES = {"torch.func": torch_func_operator, "curvlinops": curvlinops_operator}


# --- Agreement ------------------------------------------------------------------------------------


@every_network
@every_dtype
@both_matrices
def test_products(network, dtype, matrix):
    with Ours(network, dtype) as ours:
        vectors = np.random.RandomState(6).normal(size=[ours.operator(matrix).shape[0], 3])
        products = ours.operator(matrix) @ vectors
    for library, make in LIBRARIES.items():
        expected = make(matrix, network, dtype) @ vectors
        errors = np.linalg.norm(products - expected, axis=0) / np.linalg.norm(expected, axis=0)
        assert errors.max() <= TOLERANCES[dtype], library


@every_network
def test_the_two_matrices_differ(network):
    hessian, ggn = (
        torch_func_operator(matrix, network, "float64") for matrix in ("hessian", "ggn")
    )
    vector = np.random.RandomState(6).normal(size=hessian.shape[0])
    difference = np.linalg.norm(hessian @ vector - ggn @ vector)
    assert difference > 0.1 * np.linalg.norm(hessian @ vector)


@every_network
@both_matrices
def test_top_eigenvalues(network, matrix):
    with Ours(network, "float64") as ours:
        values = curvature.top_eigenvalues(ours.operator(matrix), 5, tol=1e-6).values
    for library, make in LIBRARIES.items():
        operator = make(matrix, network, "float64")
        expected = scipy.sparse.linalg.eigsh(operator, 5, which="LM", return_eigenvectors=False)
        expected = expected[np.argsort(-np.abs(expected))]
        np.testing.assert_allclose(values, expected, rtol=1e-4, err_msg=library)


@every_network
def test_trace(network):
    """Of a matrix of low rank, where Hutch++ has nothing left to estimate."""
    with Ours(network, "float64", num_rows=6) as ours:
        found = curvature.trace(ours.operator("ggn"), 180, method="hutch++")
    for library, make in LIBRARIES.items():
        operator = make("ggn", network, "float64", num_rows=6)
        expected = np.trace(operator @ np.eye(operator.shape[0]))
        assert found.value == pytest.approx(expected, rel=1e-4), library


@pytest.mark.parametrize("network", ["digits-mlp", "cnn"])
def test_the_benchmark_times_the_same_products(network, monkeypatch):
    """Of curvature_sides.py, which has PyTorch's layout: <product, vector> of each."""
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "benchmarks"))
    sides = pytest.importorskip("curvature_sides")
    ours, theirs = (
        {product: dot() for product, (_, dot) in make(sides.NETWORKS[network]).items()}
        for make in (sides.tensorflow_calls, sides.torch_calls)
    )
    assert sorted(theirs) == ["ggn", "gradient", "hessian"]
    assert {product: ours[product] for product in theirs} == pytest.approx(theirs, rel=1e-4)
    assert ours["fisher"] == pytest.approx(ours["ggn"], rel=1e-4)
