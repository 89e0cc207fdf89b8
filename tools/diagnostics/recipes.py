"""How one training is made: all choices of a run, and the places where a fault is planted."""

import zlib
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from diagnostics import data
from tf1xent._tf import tf

# Ops that a fault adds stand in this scope: a tool that names one of them has found the place.
PLANTED = "planted"

Function = Callable[..., Any]


class Plan(NamedTuple):
    """The choices of one run, all drawn from its seed."""

    cause: str
    fault: str
    model: str
    seed: int
    driver: str
    activation: str
    optimizer: str
    variables: str
    control_flow: str
    patch: bool
    loss: str
    mean: str
    reads: str
    rows: int
    hidden: int
    depth: int
    rate: float
    when: int


ACTIVATIONS: Dict[str, Function] = {"relu": tf.nn.relu, "tanh": tf.nn.tanh}
OPTIMIZERS: Dict[str, Function] = {
    "SGD": tf.train.GradientDescentOptimizer,
    "Momentum": lambda rate: tf.train.MomentumOptimizer(rate, 0.9),
    "Adam": tf.train.AdamOptimizer,
}
HEALTHY_RATES = {"SGD": (0.02, 0.2), "Momentum": (0.005, 0.05), "Adam": (0.001, 0.01)}
VARIABLES = ("reference", "resource", "partitioned")


def one_hot(labels: Any, dtype: Any = tf.float32) -> Any:
    return tf.one_hot(labels, data.CLASSES, dtype=dtype)


def _sparse(logits: Any, labels: Any) -> Any:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def _dense(logits: Any, labels: Any) -> Any:
    labels = one_hot(labels, logits.dtype)
    return tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)


def _losses_of_tf(logits: Any, labels: Any) -> Any:
    none = tf.losses.Reduction.NONE
    return tf.losses.sparse_softmax_cross_entropy(labels, logits, reduction=none)


def _log_softmax(logits: Any, labels: Any) -> Any:
    return -tf.reduce_sum(one_hot(labels, logits.dtype) * tf.nn.log_softmax(logits), axis=-1)


def _logsumexp(logits: Any, labels: Any) -> Any:
    true = tf.reduce_sum(one_hot(labels, logits.dtype) * logits, axis=-1)
    return tf.reduce_logsumexp(logits, axis=-1) - true


# By name, the loss of each example from `[n, classes]` logits and `[n]` labels; all are healthy.
LOSSES: Dict[str, Function] = {
    "sparse": _sparse,
    "dense": _dense,
    "tf.losses": _losses_of_tf,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
}


def _mean_of_weighted(losses: Any, weights: Any) -> Any:
    return tf.reduce_sum(losses * weights) / tf.maximum(tf.reduce_sum(weights), 1)


def _mean_of_all(losses: Any, weights: Any) -> Any:
    return tf.reduce_mean(losses * weights)


MEANS: Dict[str, Function] = {"weighted": _mean_of_weighted, "all": _mean_of_all}


class Parts(NamedTuple):
    """Tensors of a model; the tagger's steps count as rows in `hidden`, `logits` and `labels`."""

    features: Any
    hidden: Any
    logits: Any
    labels: Any
    variables: Dict[str, Any]


class Recipe:
    """One training. What a fault changes are the attributes below; each has a healthy default.

    Attributes:
      strength: what a fault multiplies its size with.
      steps: the number of steps.
      place: a regular expression: names of ops at which the fault shows first.
      change_batch: (step, batch) -> batch.
      change_values: (values by name) -> None: changes the initial values in place.
      features, activation, between, logits: tensor -> tensor, where the model has them: what is
        read, each hidden layer, what the last layer reads, what it returns.
      losses: (logits, labels) -> the loss of each example.
      mean: (losses, weights) -> their mean.
      penalty: None, or `Parts` -> a scalar that is added to the loss.
      scale: what the loss is multiplied by before it is differentiated, and its gradients divided.
      rate: global step -> learning rate.
      optimizer: rate -> optimizer.
      gradients: a list of (gradient, variable) -> such a list.
      trained: name of a variable -> whether the optimizer gets it.
      trainable: name of a variable -> whether it is made a trainable one.
      dtype: of what is computed; dtype_of_variables: of what is stored.
      runs_update: whether the loop runs the train op.
      between_steps: None, or (session, step, built) -> None: what else the loop does.
    """

    def __init__(self, plan: Plan, strength: float = 1.0) -> None:
        self.plan, self.strength = plan, strength
        self.rng = np.random.RandomState(zlib.crc32(repr(plan[:4]).encode()))
        self.steps = plan.when + 3
        self.place = f"(^|/){PLANTED}"
        self.change_batch: data.Change = lambda step, batch: batch
        self.change_values: Callable[[Dict[str, np.ndarray]], None] = lambda values: None
        self.features: Function = lambda x: x
        self.activation: Function = ACTIVATIONS[plan.activation]
        self.between: Function = lambda x: x
        self.logits: Function = lambda x: x
        self.losses: Function = LOSSES[plan.loss]
        self.mean: Function = MEANS[plan.mean]
        self.penalty: Optional[Function] = None
        self.scale = 1.0
        self.rate: Function = lambda step: plan.rate
        self.optimizer: Function = OPTIMIZERS[plan.optimizer]
        self.gradients: Function = lambda pairs: pairs
        self.trained: Callable[[str], bool] = lambda name: True
        self.trainable: Callable[[str], bool] = lambda name: True
        self.dtype = self.dtype_of_variables = tf.float32
        self.runs_update = True
        self.between_steps: Optional[Function] = None

    def batches(self) -> List[data.Batch]:
        """Returns the batch of every step."""
        rng = np.random.RandomState(self.plan.seed + 1000)
        drawn = [data.draw(self.plan.model, rng, self.plan.rows) for _ in range(self.steps)]
        return [self.change_batch(step, batch) for step, batch in enumerate(drawn, 1)]

    def values(self) -> Dict[str, np.ndarray]:
        """Returns the initial values of the variables."""
        rng = np.random.RandomState(self.plan.seed + 2000)
        values = {}
        for name, shape in shapes_of(self.plan).items():
            if len(shape) == 1:
                values[name] = np.zeros(shape, np.float32)
            else:
                spread = np.sqrt(1.5 / np.prod(shape[:-1]))
                values[name] = (rng.randn(*shape) * spread).astype(np.float32)
        self.change_values(values)
        return values

    def is_at_place(self, name: Optional[str]) -> bool:
        """Tells whether the name of an op or tensor is one at which the fault shows."""
        import re

        return name is not None and re.search(self.place, name) is not None


def shapes_of(plan: Plan) -> Dict[str, Tuple[int, ...]]:
    """Returns the shapes of a model's variables, by name, the first layer's first."""
    hidden, classes = plan.hidden, data.CLASSES
    shapes: Dict[str, Tuple[int, ...]] = {}
    if plan.model == "MLP":
        sizes: Sequence[int] = [64, *[hidden] * plan.depth]
        for i in range(plan.depth):
            shapes[f"hidden{i}/kernel"] = (sizes[i], hidden)
            shapes[f"hidden{i}/bias"] = (hidden,)
        last = hidden
    elif plan.model == "CNN":
        shapes["conv/kernel"], shapes["conv/bias"] = (3, 3, 1, hidden), (hidden,)
        last = 16 * hidden
    else:
        shapes["cell/kernel"] = (data.SIDE, hidden)
        shapes["cell/recurrent"] = (hidden, hidden)
        shapes["cell/bias"] = (hidden,)
        last = hidden
    shapes["output/kernel"], shapes["output/bias"] = (last, classes), (classes,)
    return shapes


def planted(function: Function) -> Function:
    """Returns the function with its ops in the scope of planted ones."""

    def call(*arguments: Any) -> Any:
        with tf.name_scope(PLANTED):
            return function(*arguments)

    return call
