"""TensorFlow's vectorizer, pfor: `tf.vectorized_map`, `jacobian`, `batch_jacobian` of the losses.

Nothing falls back to a loop here, where that can be asked for: every op has to be converted.
"""

import functools
import inspect

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.ops.parallel_for import control_flow_ops, gradients

import tf1xent
from tests.oracle.reference import Reference
from tests.support import option_cases
from tests.support.tolerances import assert_within_contract, gradient_scale
from tf1xent import losses, nn

ITERATIONS, ROWS = 2, 2
SPARSE = nn.sparse_softmax_cross_entropy_with_logits
DENSE = nn.softmax_cross_entropy_with_logits_v2


@pytest.fixture
def overridden():
    tf1xent.override_gradients()
    yield
    tf1xent.restore_gradients()


def pfor(function, count):
    """`function` of the numbers below `count`, all at once."""
    options = {}
    if "fallback_to_while_loop" in inspect.signature(control_flow_ops.pfor).parameters:
        options["fallback_to_while_loop"] = False
    return control_flow_ops.pfor(function, count, **options)


class Data:
    """Arrays of all iterations, [ITERATIONS, ROWS, ...]; and what is true of their losses."""

    def __init__(self, num_classes, iterations=ITERATIONS, rows=ROWS):
        random = np.random.RandomState(num_classes)
        shape = (iterations, rows, num_classes)
        self.logits = (3 * random.normal(size=shape)).astype(np.float32)
        self.classes = random.randint(num_classes, size=shape[:2])
        if num_classes < 1000:
            self.logits[0, 0, self.classes[0, 0]] += 25  # confident and right
        labels = random.gamma(0.5, size=shape)
        labels /= labels.sum(axis=-1, keepdims=True)
        self.distributions = labels.astype(np.float32)
        self.vectors = random.normal(size=shape).astype(np.float32)

    def check(self, kind, quantity, got, stacked=("logits", "labels", "vectors")):
        """`got`, a quantity by iteration, against the oracle; what is not `stacked` is that of
        the first iteration in all."""
        names = {"logits": "logits", "vectors": "vectors"}
        names["labels"] = "classes" if kind == "sparse" else "distributions"
        arrays = {}
        for name, attribute in names.items():
            array = getattr(self, attribute)
            first = np.broadcast_to(array[:1], array.shape)
            chosen = array if name in stacked else first
            arrays[name] = chosen.reshape((-1,) + array.shape[2:])
        reference = Reference(arrays["logits"])
        want, scale = _expected(reference, kind, quantity, arrays["labels"], arrays["vectors"])
        got = np.asarray(got).reshape(want.shape)
        underflow = 4 if quantity == "product" else 0
        what = f"{quantity} of the {kind} loss, {' and '.join(stacked)} stacked"
        assert_within_contract(got, want, arrays["logits"], scale, underflow, what)

    def check_hessian(self, kind, **results):
        """Results, [..., num_classes, num_classes] of each row, against products with units."""
        num_classes = self.logits.shape[-1]
        logits = self.logits.reshape(-1, num_classes)
        labels = None if kind == "sparse" else self.distributions.reshape(-1, num_classes)
        reference = Reference(logits)
        for j in range(num_classes):
            unit = np.zeros_like(logits)
            unit[:, j] = 1
            want = reference.derivative_product([unit], labels)
            scale = reference.product_scale([unit], labels)
            for route, got in results.items():
                row = np.asarray(got).reshape(len(logits), num_classes, num_classes)[:, j]
                assert_within_contract(row, want, logits, scale, 4, f"{kind}, {route}, row {j}")


def _expected(reference, kind, quantity, labels, vectors):
    """(true values, what their error is measured by)."""
    sparse = kind == "sparse"
    if quantity == "loss":
        loss = reference.sparse_loss if sparse else reference.dense_loss
        return loss(labels), None
    if quantity == "gradient":
        if sparse:
            return reference.sparse_gradient(labels), None
        return reference.dense_gradient(labels), gradient_scale(reference, labels)
    if quantity == "label gradient":
        return reference.labels_gradient(), None
    labels = None if sparse else labels
    product = reference.derivative_product([vectors], labels)
    return product, reference.product_scale([vectors], labels)


@functools.lru_cache(maxsize=None)
def data(num_classes):
    return Data(num_classes)


def loss_of(kind, implementation):
    """A function of logits and labels; for the implementation "stock", TensorFlow's own."""
    function = SPARSE if kind == "sparse" else DENSE
    options = {"implementation": implementation}
    if implementation == "stock":
        function, options = tf1xent.get_original(function.__name__), {}
    return lambda logits, labels: function(labels=labels, logits=logits, **options)


def quantity_of(name, loss, logits, labels, vectors):
    """A quantity of Data.check, as a tensor of a graph."""
    values = loss(logits, labels)
    if name == "loss":
        return values
    if name == "label gradient":
        return tf.gradients(values, labels)[0]
    (gradient,) = tf.gradients(values, logits)
    if name == "gradient":
        return gradient
    return tf.gradients(gradient, logits, grad_ys=vectors)[0]


def arrays_of(kind, values, label_dtype):
    labels = values.classes.astype(label_dtype) if kind == "sparse" else values.distributions
    return {"logits": values.logits, "labels": labels, "vectors": values.vectors}


# --- Maps -------------------------------------------------------------------------------------

ALL = ("logits", "labels", "vectors")


def check_maps(implementation, kind, num_classes, wanted, static="known", label_dtype=np.int32):
    """The quantities of each iteration, in one run; `wanted`: (quantity, what is stacked)."""
    values = data(num_classes)
    loss = loss_of(kind, implementation)
    results = {}
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = {
            name: option_cases.placeholder(array, static)
            for name, array in arrays_of(kind, values, label_dtype).items()
        }
        for quantity, stacked in wanted:

            def body(i, stacked=stacked, quantity=quantity):
                own = {n: tf.gather(t, i if n in stacked else 0) for n, t in tensors.items()}
                return quantity_of(quantity, loss, **own)

            results[quantity, stacked] = pfor(body, ITERATIONS)
        results = session.run(results)
    for (quantity, stacked), got in results.items():
        values.check(kind, quantity, got, stacked)


PRODUCTS = [("product", ALL)] + [("product", (name,)) for name in ALL]


@pytest.mark.parametrize("implementation", ["graph", "kernel"])
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_maps(kind, implementation, request):
    if implementation == "kernel":
        request.getfixturevalue("library")
    quantities = ["loss", "gradient"] + ["label gradient"] * (kind == "dense")
    check_maps(implementation, kind, 10, [(name, ALL) for name in quantities] + PRODUCTS)
    # Products contain what the others are made of.
    check_maps(implementation, kind, 100, PRODUCTS[:1], "unknown sizes", np.int64)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_maps_of_many_classes(kind):
    check_maps("graph", kind, 100, PRODUCTS)


def test_maps_of_the_implementation_that_is_there(library):
    check_maps("auto", "sparse", 10, PRODUCTS[:1], label_dtype=np.int64)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_maps_of_tensorflows_own_ops_with_overridden_gradients(overridden, kind):
    check_maps("stock", kind, 10, PRODUCTS)


@pytest.mark.lengthy
@pytest.mark.parametrize("implementation", ["graph", "kernel"])
def test_a_hundred_thousand_classes(implementation, request):
    if implementation == "kernel":
        request.getfixturevalue("library")
    values = Data(100000, rows=1)
    with tf.Graph().as_default(), tf.Session() as session:
        results = {}
        for kind in ("sparse", "dense"):
            arrays = arrays_of(kind, values, np.int64)
            tensors = {n: option_cases.placeholder(a, "unknown sizes") for n, a in arrays.items()}

            def body(i, kind=kind, tensors=tensors):
                own = {name: tf.gather(tensor, i) for name, tensor in tensors.items()}
                return quantity_of("gradient", loss_of(kind, implementation), **own)

            results[kind] = pfor(body, ITERATIONS)
        results = session.run(results)
    logits = values.logits.astype(np.float64)  # rounding errors of these formulas do not count
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = powers / powers.sum(axis=-1, keepdims=True)
    labels = {"sparse": np.zeros_like(logits), "dense": values.distributions}
    np.put_along_axis(labels["sparse"], values.classes[..., np.newaxis], 1, axis=-1)
    for kind, got in results.items():
        total = labels[kind].sum(axis=-1, keepdims=True, dtype=np.float64)
        want = total * probabilities - labels[kind]
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-10)


# --- Jacobians --------------------------------------------------------------------------------


def hessians(loss, logits, labels, tapes):
    """The Hessian of each row, by each of TensorFlow's routes: [ROWS, classes, classes]."""

    def rows_of(jacobian):  # [ROWS, classes, ROWS, classes], zero between rows
        return tf.stack([jacobian[row, :, row] for row in range(ROWS)])

    (gradient,) = tf.gradients(loss(logits, labels), logits)
    found = {"jacobian": rows_of(gradients.jacobian(gradient, logits))}
    if isinstance(logits.shape[0], tf.Dimension):  # that of TF 2.x takes no other sizes
        found["batch_jacobian"] = gradients.batch_jacobian(gradient, logits)
    if not tapes:
        return found
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(logits)
        with tf.GradientTape() as inner:
            inner.watch(logits)
            values = loss(logits, labels)
        gradient = inner.gradient(values, logits)
    found["tape_jacobian"] = rows_of(outer.jacobian(gradient, logits))
    found["tape_batch_jacobian"] = outer.batch_jacobian(gradient, logits)
    return found


def check_hessians(implementation, kind, num_classes, static="known"):
    values = data(num_classes)
    arrays = arrays_of(kind, values, np.int32)
    with tf.Graph().as_default(), tf.Session() as session:
        logits, labels = (
            option_cases.placeholder(arrays[name][0], static) for name in ("logits", "labels")
        )
        loss = loss_of(kind, implementation)
        # Tapes of TF 1.x do not keep what the sparse op's second derivative needs.
        tapes = (implementation, kind) != ("stock", "sparse")
        results = session.run(hessians(loss, logits, labels, tapes))
    first = Data(num_classes)
    first.logits, first.distributions = first.logits[:1], first.distributions[:1]
    first.check_hessian(kind, **results)


@pytest.mark.parametrize("num_classes, static", [(10, "known"), (70, "unknown sizes")])
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_hessians_of_the_graph_version(kind, num_classes, static):
    check_hessians("graph", kind, num_classes, static)


@pytest.mark.parametrize("kind, static", [("sparse", "known"), ("dense", "unknown sizes")])
def test_hessians_of_the_kernels(library, kind, static):
    check_hessians("kernel", kind, 10, static)


def test_hessians_of_tensorflows_own_ops_with_overridden_gradients(overridden):
    for kind in ("sparse", "dense"):
        check_hessians("stock", kind, 10)


# --- Eagerly, and in functions ------------------------------------------------------------------


@pytest.mark.parametrize("implementation", ["graph", "kernel", "auto"])
def test_maps_and_jacobians_of_each_other_in_a_function(implementation, request):
    if implementation != "graph":
        request.getfixturevalue("library")
    if not (hasattr(tf, "vectorized_map") and hasattr(tf, "function")):
        pytest.skip("this TensorFlow has no tf.vectorized_map")
    values = data(10)

    def hessian(pair, kind):
        logits, labels = pair
        with tf.GradientTape() as outer:
            outer.watch(logits)
            with tf.GradientTape() as inner:
                inner.watch(logits)
                loss = loss_of(kind, implementation)(logits, labels)
            gradient = inner.gradient(loss, logits)
        return outer.batch_jacobian(gradient, logits)

    for kind in ("sparse", "dense"):
        arrays = arrays_of(kind, values, np.int64)

        def mapped(logits, labels, kind=kind):
            return tf.vectorized_map(lambda pair: hessian(pair, kind), (logits, labels))

        with tf.Graph().as_default(), tf.Session() as session:
            tensors = [tf.constant(arrays[name]) for name in ("logits", "labels")]
            got = session.run(tf.function(mapped, autograph=False)(*tensors))
        values.check_hessian(kind, function=got)
        if tf.executing_eagerly():
            got = mapped(*(tf.constant(arrays[name]) for name in ("logits", "labels"))).numpy()
            values.check_hessian(kind, eagerly=got)


# --- Options ----------------------------------------------------------------------------------


def option_sets(kind):
    """All options at once, and each in one of two halves."""
    names = [name for name in option_cases.OPTIONS[kind] if name != "axis"]
    return [tuple(names), tuple(names[::2]), tuple(names[1::2]) + ("axis",)]


@pytest.mark.lengthy
@pytest.mark.parametrize("kind", ["sparse", "soft", "probabilities"])
def test_every_option(kind):
    cases = [option_cases.Case(kind, names) for names in option_sets(kind)]
    factors = np.array([1.0, 0.5])

    def scaled(case, factor):
        return case.arrays["logits"] * (1.0 if case.is_plain else factor)

    results = []
    with tf.Graph().as_default(), tf.Session() as session:
        for case in cases:
            logits = tf.constant(np.stack([scaled(case, factor) for factor in factors]))
            others = {n: tf.constant(a) for n, a in case.arrays.items() if n != "logits"}

            def body(i, case=case, logits=logits, others=others):
                own = tf.gather(logits, i)
                loss = case.call(dict(others, logits=own))
                return loss, tf.gradients(loss * case.cotangents, own)[0]

            results.append(pfor(body, len(factors)))
        results = session.run(results)
    faults = option_cases.Faults(rtol=1e-10, atol=1e-12)
    for case, (loss, gradient) in zip(cases, results):
        for i, factor in enumerate(factors):
            case.arrays["logits"] = scaled(case, 1.0 if i == 0 else factor)
            reference = case.reference()
            want = reference.derivatives(case.vectors, case.cotangents)[0]["logits"]
            faults.compare(f"{case.name}, loss", loss[i], reference.loss())
            faults.compare(f"{case.name}, gradient", gradient[i], want)
    faults.none()


def test_reduced_losses():
    values = data(10)
    with tf.Graph().as_default(), tf.Session() as session:
        logits, labels = tf.constant(values.logits), tf.constant(values.classes)
        weights = tf.constant([2.0, 1.0])

        def body(i):
            own = tf.gather(logits, i)
            loss = losses.sparse_softmax_cross_entropy(tf.gather(labels, i), own, weights)
            return loss, tf.gradients(loss, own)[0]

        loss, gradient = session.run(pfor(body, ITERATIONS))
    for i in range(ITERATIONS):
        reference = Reference(values.logits[i])
        shares = np.array([1.0, 0.5])
        want = np.asarray(reference.sparse_loss(values.classes[i]), np.float64) @ shares
        np.testing.assert_allclose(loss[i], want, rtol=1e-5)
        want = np.asarray(reference.sparse_gradient(values.classes[i]), np.float64)
        np.testing.assert_allclose(gradient[i], want * shares[:, np.newaxis], rtol=1e-5)


@pytest.mark.lengthy
@pytest.mark.parametrize("chunk_size", [4, 10])
def test_linear_losses(chunk_size):
    # In a tf.function of TF 1.x several chunks are a loop that its vectorizer cannot convert.
    random = np.random.RandomState(0)
    inputs, weights = random.normal(size=(ITERATIONS, ROWS, 3)), random.normal(size=(3, 10))
    classes = random.randint(10, size=(ITERATIONS, ROWS))
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = [tf.constant(array) for array in (inputs, classes)]

        def body(i):
            features, labels = (tf.gather(tensor, i) for tensor in tensors)
            loss = losses.linear_softmax_cross_entropy(
                labels, features, tf.constant(weights), chunk_size=chunk_size, reduction="none"
            )
            (gradient,) = tf.gradients(loss, features)
            return loss, gradient, tf.gradients(gradient, features, grad_ys=features)[0]

        results = session.run(pfor(body, ITERATIONS))
    loss, gradient, product = (array.reshape((-1,) + array.shape[2:]) for array in results)
    rows = inputs.reshape(-1, 3)
    logits = rows @ weights
    reference = Reference(logits)
    want = np.asarray(reference.sparse_loss(classes.ravel()), np.float64)
    np.testing.assert_allclose(loss, want, rtol=1e-12)
    want = np.asarray(reference.sparse_gradient(classes.ravel()), np.float64) @ weights.T
    np.testing.assert_allclose(gradient, want, rtol=1e-12)
    want = np.asarray(reference.derivative_product([logits]), np.float64) @ weights.T
    np.testing.assert_allclose(product, want, rtol=1e-11)
