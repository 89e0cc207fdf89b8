"""The sides of PyTorch (F.cross_entropy, autograd) and JAX (optax's cross-entropy, jitted)."""

import contextlib
import functools
import importlib
import os
from argparse import Namespace
from typing import Any, Callable, Dict, Iterator, List

import measuring
from worker import Computation, Inputs

Calls = Dict[str, Callable[[], List[Any]]]


def describe(settings: Namespace) -> Any:
    """Imports the framework with its threads set; returns its version."""
    if settings.framework == "torch":
        torch = importlib.import_module("torch")
        torch.set_num_threads(settings.threads)
        return {"PyTorch": torch.__version__}, {}
    if settings.threads == 1:
        # With more, the processors that the worker is held to say how many threads there are.
        flags = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
        os.environ["XLA_FLAGS"] = flags
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_ENABLE_X64"] = "1" if settings.dtype == "float64" else "0"
    jax, optax = importlib.import_module("jax"), importlib.import_module("optax")
    return {"JAX": jax.__version__, "optax": optax.__version__}, {}


def torch_ways(inputs: Inputs, settings: Namespace) -> Dict[str, Calls]:
    """Returns {order: {way: call}}."""
    torch = importlib.import_module("torch")
    cross_entropy = importlib.import_module("torch.nn.functional").cross_entropy
    dtype = getattr(torch, settings.dtype)
    logits, vector, weights = (
        torch.from_numpy(array).to(dtype)
        for array in (inputs.logits, inputs.vector, inputs.weights)
    )
    labels = torch.from_numpy(inputs.labels)
    labels = labels.to(dtype) if settings.dense else labels
    leaf = logits.clone().requires_grad_()
    cotangent = torch.ones_like(weights)

    def losses(logits: Any) -> Any:
        loss = cross_entropy(logits, labels, reduction="none")
        return loss * weights if settings.weighted else loss

    def loss() -> List[Any]:
        with torch.inference_mode():
            return [losses(logits)]

    def gradient() -> List[Any]:
        loss = losses(leaf)
        return [loss.detach(), *torch.autograd.grad(loss, leaf, cotangent)]

    def double_backward() -> List[Any]:
        loss = losses(leaf)
        (slope,) = torch.autograd.grad(loss, leaf, cotangent, create_graph=True)
        return [loss.detach(), *torch.autograd.grad(slope, leaf, vector)]

    def sum_and_losses(logits: Any) -> Any:
        loss = losses(logits)
        return loss.sum(), loss

    def forward_over_reverse() -> List[Any]:
        slope = torch.func.grad(sum_and_losses, has_aux=True)
        _, product, loss = torch.func.jvp(slope, (logits,), (vector,), has_aux=True)
        return [loss, product]

    hvp = {
        "double backward": double_backward,
        "torch.func.jvp of torch.func.grad": forward_over_reverse,
    }
    product: Calls = {name: lambda way=way: way()[1:] for name, way in hvp.items()}  # type: ignore
    return {"loss": {"": loss}, "gradient": {"": gradient}, "hvp": hvp, "product": product}


def jax_ways(inputs: Inputs, settings: Namespace) -> Dict[str, Calls]:
    """Returns {order: {"": call}}, compiled, so that the compiler is not measured."""
    jax, optax = importlib.import_module("jax"), importlib.import_module("optax")
    numpy = jax.numpy
    dtype = getattr(numpy, settings.dtype)
    label_dtype = dtype if settings.dense else "int32"
    logits, vector, weights = (
        numpy.array(array, dtype) for array in (inputs.logits, inputs.vector, inputs.weights)
    )
    arguments = logits, numpy.array(inputs.labels, label_dtype), weights, vector

    def loss(logits: Any, labels: Any, weights: Any, _: Any) -> List[Any]:
        if settings.dense:
            loss = optax.softmax_cross_entropy(logits, labels)
        else:
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return [loss * weights if settings.weighted else loss]

    def gradient(logits: Any, *rest: Any) -> List[Any]:
        value, back = jax.vjp(lambda logits: loss(logits, *rest)[0], logits)
        return [value, *back(jax.numpy.ones_like(value))]

    def hvp(logits: Any, *rest: Any) -> List[Any]:
        # Forward over reverse, which JAX's documentation recommends for these products.
        (value, _), (_, product) = jax.jvp(lambda x: gradient(x, *rest), (logits,), (rest[-1],))
        return [value, product]

    def call(compiled: Any) -> List[Any]:
        return jax.block_until_ready(compiled(*arguments))

    functions = {"loss": loss, "gradient": gradient, "hvp": hvp}
    functions["product"] = lambda *arguments: hvp(*arguments)[1:]
    return {
        order: {"": functools.partial(call, jax.jit(functions[order]).lower(*arguments).compile())}
        for order in settings.orders
    }


def choose(ways: Calls) -> Any:
    """Returns the Computation of the fastest way that works, or what all of them raise."""
    times, refused = {}, []
    for name, call in ways.items():
        sample = functools.partial(measuring.time_sample, call)
        try:
            number = measuring.calls_to_fill_a_sample(sample)
        except (NotImplementedError, RuntimeError) as error:
            refused.append(f"{type(error).__name__}: {name}: {error}")
        else:
            times[name] = min(sample(number) for _ in range(5 if len(ways) > 1 else 1))
    if not times:
        return "; ".join(refused)
    way = min(times, key=lambda name: times[name])
    sample = functools.partial(measuring.time_sample, ways[way])
    return Computation(sample, lambda: [in_float(result) for result in ways[way]()], way or None)


def in_float(result: Any) -> Any:
    """Returns a result as NumPy's float32 or float64: it has no bfloat16."""
    if hasattr(result, "astype"):
        return result.astype("float32") if result.dtype.itemsize < 4 else result
    return (result.float() if result.element_size() < 4 else result).numpy()


@contextlib.contextmanager
def computations(inputs: Inputs, problem: Namespace) -> Iterator[Dict[Any, Any]]:
    """Yields {(order, framework): Computation, or the error where there is no such thing}."""
    ways = (torch_ways if problem.framework == "torch" else jax_ways)(inputs, problem)
    yield {(order, problem.framework): choose(ways[order]) for order in problem.orders}
