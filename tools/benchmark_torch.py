"""PyTorch's side of tools/benchmark.py: F.cross_entropy and its derivatives by autograd."""

import contextlib
import functools
import importlib

import measuring
from benchmark_worker import Computation

CHOOSING_SAMPLES = 5
NAMES = {
    "double_backward": "double backward",
    "forward_over_reverse": "torch.func.jvp of torch.func.grad",
}


def describe(settings):
    torch = importlib.import_module("torch")
    torch.set_num_threads(settings.threads)
    return {"versions": {"PyTorch": torch.__version__}, "missing": {}}


def make_functions(inputs, settings):
    """Returns {order: [ways to compute it]}; of more than one way the fastest will be taken."""
    torch = importlib.import_module("torch")
    cross_entropy = importlib.import_module("torch.nn.functional").cross_entropy
    dtype = getattr(torch, settings.dtype)
    logits, vector = (torch.from_numpy(a).to(dtype) for a in (inputs.logits, inputs.vector))
    labels = torch.from_numpy(inputs.labels)
    labels = labels.to(dtype) if settings.dense else labels
    leaf = logits.clone().requires_grad_()
    weights = torch.from_numpy(inputs.weights).to(dtype)
    cotangent = torch.ones_like(weights)

    def losses(logits):
        loss = cross_entropy(logits, labels, reduction="none")
        return loss * weights if settings.weighted else loss

    def loss():
        with torch.inference_mode():
            return [losses(logits)]

    def gradient():
        loss = losses(leaf)
        return [loss.detach(), *torch.autograd.grad(loss, leaf, cotangent)]

    def double_backward():
        loss = losses(leaf)
        (slope,) = torch.autograd.grad(loss, leaf, cotangent, create_graph=True)
        return [loss.detach(), *torch.autograd.grad(slope, leaf, vector)]

    def sum_and_losses(logits):
        loss = losses(logits)
        return loss.sum(), loss

    def forward_over_reverse():
        slope = torch.func.grad(sum_and_losses, has_aux=True)
        _, product, loss = torch.func.jvp(slope, (logits,), (vector,), has_aux=True)
        return [loss, product]

    ways = [double_backward, forward_over_reverse]
    return {
        "loss": [loss],
        "gradient": [gradient],
        "hvp": ways,
        "product": [functools.partial(without_loss, way) for way in ways],
    }


def without_loss(way):
    return way()[1:]


def choose(ways):
    """Returns the Computation of the fastest way that works."""
    candidates, refused = [], []
    for way in ways:
        sample = functools.partial(measuring.time_sample, way)
        name = NAMES.get(getattr(way, "args", [way])[0].__name__)
        try:
            number = measuring.calls_to_fill_a_sample(sample)
        except (NotImplementedError, RuntimeError) as error:
            refused.append(f"{name}: {type(error).__name__}: {error}")
            continue
        time = min(sample(number) for _ in range(CHOOSING_SAMPLES)) if len(ways) > 1 else 0
        candidates.append((time, name, sample, way))
    if not candidates:
        return "; ".join(refused)
    _, name, sample, way = min(candidates, key=lambda candidate: candidate[0])
    # Through float32: NumPy has no bfloat16.
    return Computation(sample, lambda: [result.float().numpy() for result in way()], name)


@contextlib.contextmanager
def computations(inputs, problem):
    """Yields {(order, "torch"): Computation, or the error where PyTorch has no such thing}."""
    functions = make_functions(inputs, problem)
    yield {(order, "torch"): choose(functions[order]) for order in problem.orders}
