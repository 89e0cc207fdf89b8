"""JAX's side of tools/benchmark.py: optax's cross-entropy and its derivatives, jitted."""

import contextlib
import functools
import importlib
import os

import measuring
from benchmark_worker import Computation


def describe(settings):
    if settings.threads == 1:
        # With more, the processors that the worker is held to say how many threads there are.
        flags = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
        os.environ["XLA_FLAGS"] = flags
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_ENABLE_X64"] = "1" if settings.dtype == "float64" else "0"
    jax, optax = importlib.import_module("jax"), importlib.import_module("optax")
    return {"versions": {"JAX": jax.__version__, "optax": optax.__version__}, "missing": {}}


def make_functions(jax, optax, settings):
    """Returns {order: function of logits, labels, weights and vector}."""

    def losses(logits, labels, weights):
        if settings.dense:
            loss = optax.softmax_cross_entropy(logits, labels)
        else:
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return loss * weights if settings.weighted else loss

    def loss(logits, labels, weights, vector):
        return [losses(logits, labels, weights)]

    def gradient(logits, labels, weights, vector):
        loss, back = jax.vjp(lambda logits: losses(logits, labels, weights), logits)
        return [loss, *back(jax.numpy.ones_like(loss))]

    def hvp(logits, labels, weights, vector):
        # Forward over reverse, which JAX's documentation recommends for these products.
        (loss, _), (_, product) = jax.jvp(
            lambda logits: gradient(logits, labels, weights, vector), (logits,), (vector,)
        )
        return [loss, product]

    def product(logits, labels, weights, vector):
        return hvp(logits, labels, weights, vector)[1:]

    return {"loss": loss, "gradient": gradient, "hvp": hvp, "product": product}


@contextlib.contextmanager
def computations(inputs, problem):
    """Yields {(order, "jax"): Computation}."""
    jax, optax = importlib.import_module("jax"), importlib.import_module("optax")
    numpy = jax.numpy
    dtype = getattr(numpy, problem.dtype)
    label_dtype = dtype if problem.dense else getattr(numpy, problem.label_dtype)
    arguments = [
        numpy.array(inputs.logits, dtype),
        numpy.array(inputs.labels, label_dtype),
        numpy.array(inputs.weights, dtype),
        numpy.array(inputs.vector, dtype),
    ]
    functions = make_functions(jax, optax, problem)
    made = {}
    for order in problem.orders:
        # Compiled here, so that neither time nor memory of the compiler is measured.
        compiled = jax.jit(functions[order]).lower(*arguments).compile()

        def run(compiled=compiled):
            return jax.block_until_ready(compiled(*arguments))

        def fetch(run=run):
            return [result.astype(numpy.float32) for result in run()]

        sample = functools.partial(measuring.time_sample, run)
        made[order, "jax"] = Computation(sample, fetch, None)
    yield made
