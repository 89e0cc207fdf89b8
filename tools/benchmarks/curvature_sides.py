"""The networks whose curvature is measured, in TensorFlow and in PyTorch.

A side runs as `PYTHON curvature_sides.py FRAMEWORK` and answers lines of JSON: a TensorFlow 1.x and
a PyTorch of today have no Python in common.
"""

import functools
import importlib
import json
import os
import sys
import time
from argparse import Namespace
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import measuring
import numpy as np

# What computes a product, and what returns its dot product with the vector.
Calls = Dict[str, Tuple[Callable[[], Any], Callable[[], float]]]


class Network(NamedTuple):
    """Convolutions, each with a pooling behind it, then matrices; all with biases and relu."""

    batch: int
    picture: Sequence[int]
    weights: Sequence[Sequence[int]]

    def size(self) -> int:
        """Returns the number of parameters."""
        return sum(int(np.prod(shape)) + shape[-1] for shape in self.weights)


NETWORKS = {
    "digits-mlp": Network(256, [64], [[64, 64], [64, 64], [64, 10]]),
    "mlp": Network(256, [784], [[784, 256], [256, 128], [128, 10]]),
    "cnn": Network(64, [28, 28, 1], [[3, 3, 1, 16], [3, 3, 16, 32], [1568, 10]]),
}


class Inputs(NamedTuple):
    """NumPy arrays of float32, in TensorFlow's layout; labels of int64."""

    pictures: Any
    labels: Any
    weights: List[Any]
    vectors: List[Any]


def make_inputs(network: Network) -> Inputs:
    """Returns the same random Inputs in every process."""
    random = np.random.RandomState(0)

    def draw(shape: Sequence[int]) -> Any:
        fan_in = np.prod(shape[:-1]) if len(shape) > 1 else 10.0
        return (random.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)

    shapes = [s for shape in network.weights for s in (shape, shape[-1:])]
    pictures = random.standard_normal([network.batch, *network.picture]).astype(np.float32)
    labels = random.randint(0, 10, size=network.batch).astype(np.int64)
    return Inputs(pictures, labels, list(map(draw, shapes)), list(map(draw, shapes)))


# --- TensorFlow -----------------------------------------------------------------------------------


def tensorflow_logits(network: Network, pictures: Any, weights: Sequence[Any]) -> Any:
    """Adds a network to the default graph; returns its logits."""
    from tensorflow_sides import tf

    hidden = pictures
    for number, shape in enumerate(network.weights):
        kernel, bias = weights[2 * number : 2 * number + 2]
        if len(shape) == 4:
            hidden = tf.nn.conv2d(hidden, kernel, strides=[1, 1, 1, 1], padding="SAME") + bias
            hidden = tf.nn.max_pool(tf.nn.relu(hidden), [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
        else:
            hidden = tf.matmul(tf.reshape(hidden, [-1, shape[0]]), kernel) + bias
            hidden = tf.nn.relu(hidden) if number + 1 < len(network.weights) else hidden
    return hidden


def tensorflow_calls(network: Network) -> Calls:
    """Returns all products, each a callable of one session."""
    import tensorflow_sides
    from tensorflow_sides import tf

    from tf1xent import curvature, nn

    with tf.Graph().as_default():
        inputs = make_inputs(network)
        # Variables: constants would be folded, and feeds copied at every call.
        data = [tf.Variable(array, use_resource=False) for array in inputs[:2]]
        weights, vectors = ([tf.Variable(a, use_resource=False) for a in p] for p in inputs[2:])
        logits = tensorflow_logits(network, tf.identity(data[0]), weights)
        losses = nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.identity(data[1]), logits=logits
        )
        loss, tangents = tf.reduce_mean(losses), list(map(tf.identity, vectors))
        products = {
            "gradient": tf.gradients(loss, weights),
            "hessian": curvature.hessian_vector_product(loss, weights, tangents),
            "ggn": curvature.ggn_vector_product(loss, logits, weights, tangents),
            "fisher": curvature.fisher_vector_product(logits, weights, tangents),
            "empirical": curvature.empirical_fisher_vector_product(losses, weights, tangents),
        }
        targets = {name: tensorflow_sides.nothing_after(p) for name, p in products.items()}
        session = tensorflow_sides.new_session(Namespace(threads=1))
        session.run([variable.initializer for variable in [*data, *weights, *vectors]])

    def dot(name: str) -> float:
        return sum(map(np.vdot, session.run(products[name]), inputs.vectors))

    calls = {name: session.make_callable(target) for name, target in targets.items()}
    return {name: (call, functools.partial(dot, name)) for name, call in calls.items()}


# --- PyTorch --------------------------------------------------------------------------------------


def torch_layout(arrays: Sequence[Any]) -> Tuple[Any, ...]:
    """Returns parameters as PyTorch has them: channels first, also ahead of the first matrix."""
    torch = importlib.import_module("torch")
    made, channels = [], 0
    for array in arrays:
        if array.ndim == 4:
            array, channels = array.transpose(3, 2, 0, 1), array.shape[3]
        elif array.ndim == 2 and channels:
            by_channel = array.reshape(-1, channels, array.shape[1]).transpose(1, 0, 2)
            array, channels = by_channel.reshape(array.shape), 0
        made.append(torch.tensor(np.ascontiguousarray(array)))
    return tuple(made)


def torch_calls(network: Network) -> Calls:
    """Returns the gradient by autograd, and two products by torch.func."""
    torch = importlib.import_module("torch")
    functional, func = torch.nn.functional, torch.func
    torch.set_num_threads(1)
    inputs = make_inputs(network)
    weights, vectors = map(torch_layout, inputs[2:])
    leaves = [weight.clone().requires_grad_() for weight in weights]
    pictures, labels = map(torch.tensor, inputs[:2])
    pictures = pictures.movedim(-1, 1).contiguous() if pictures.ndim == 4 else pictures

    def logits(weights: Sequence[Any]) -> Any:
        hidden = pictures
        for number, shape in enumerate(network.weights):
            kernel, bias = weights[2 * number : 2 * number + 2]
            if len(shape) == 4:
                hidden = functional.relu(functional.conv2d(hidden, kernel, bias, padding=1))
                hidden = functional.max_pool2d(hidden, 2)
            else:
                hidden = hidden.flatten(1) @ kernel + bias
                hidden = functional.relu(hidden) if number + 1 < len(network.weights) else hidden
        return hidden

    def loss(weights: Sequence[Any]) -> Any:
        return functional.cross_entropy(logits(weights), labels)

    def ggn() -> Any:
        outputs, tangent = func.jvp(logits, (weights,), (vectors,))
        p = outputs.softmax(1)
        curved = p * (tangent - (p * tangent).sum(1, keepdim=True)) / network.batch
        return func.vjp(logits, weights)[1](curved)[0]

    calls = {
        "gradient": lambda: torch.autograd.grad(loss(leaves), leaves),
        "hessian": lambda: func.jvp(func.grad(loss), (weights,), (vectors,))[1],
        "ggn": ggn,
    }

    def dot(call: Callable[[], Any]) -> float:
        return sum(float((product * vector).sum()) for product, vector in zip(call(), vectors))

    return {name: (call, functools.partial(dot, call)) for name, call in calls.items()}


# --- A process of its own -------------------------------------------------------------------------


def serve(framework: str) -> None:
    """Answers requests: ["prepare", network], then ["sample", product, number of calls]."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    version = importlib.import_module(framework).__version__
    make = {"tensorflow": tensorflow_calls, "torch": torch_calls}[framework]
    samples: Dict[str, Callable[[int], float]] = {}
    for line in sys.stdin:
        verb, name, *number = json.loads(line)
        if verb == "prepare":
            answer: Any = {}
            for product, (call, dot) in make(NETWORKS[name]).items():
                samples[product] = functools.partial(
                    measuring.time_sample, call, clock=time.process_time
                )
                number_of_calls = measuring.calls_to_fill_a_sample(samples[product])
                answer[product] = number_of_calls, float(dot())
            answer = version, answer
        else:
            answer = samples[name](*number)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    # Before a framework is loaded; the libraries that read it have no option of their own.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path.insert(0, str(os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))))
    serve(sys.argv[1])
