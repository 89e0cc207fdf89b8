"""Losses over classes in shards: each in tasks of a cluster, in one process, and by the oracle.

A case is one call with its options. All of it is made of the same few arrays, cut into shards; the
results, joined again, are those of the whole. Derivatives are of the loss (of losses by row: of a
mix of them) in all its operands together: the gradient, and the Hessian times fixed vectors.
"""

import collections
import functools

import numpy as np
import tensorflow.compat.v1 as tf

from tests.oracle.option_reference import OptionReference
from tf1xent import losses
from tf1xent.losses import Reduction

NUM_ROWS, DIM, NUM_CLASSES = 8, 3, 11
_RANDOM = np.random.RandomState(3)
INPUTS = _RANDOM.normal(size=(NUM_ROWS, DIM))
WEIGHTS = 1.5 * _RANDOM.normal(size=(DIM, NUM_CLASSES))
BIASES = _RANDOM.normal(size=NUM_CLASSES)
LOGITS = INPUTS @ WEIGHTS + BIASES
LOGITS_ALONE = LOGITS.copy()
LOGITS_ALONE[0, 10] += 20.0  # confident and wrong
LOGITS_ALONE[7, 5] += 20.0  # confident and right
MIX = np.linspace(0.5, 1.5, NUM_ROWS)

# Which shards hold a label. Sevenths of eleven classes begin with 0, 2, 4, 6, 8, 9 and 10; the
# remainders are 0, 2, 4, 6, 1, 2, 3, 5.
LABELS = {
    "every": np.array([0, 2, 4, 6, 8, 9, 10, 5]),
    "one": np.full(NUM_ROWS, 10),
    "some": np.array([0, 10, 0, 3, 10, 0, 3, 10]),
    "none": np.full(NUM_ROWS, -1),  # to be ignored
}
STRATEGIES = ("div", "mod")
MASKED, IGNORED, INVALID = 2, 1, {4: NUM_CLASSES, 6: -3}  # rows
IGNORE_LABEL, LEFT_OUT = -1, 1  # a label, and a class
# The values of options; by row and by class are arrays, and differentiated where they are floats.
OPTIONS = {
    "mask": np.arange(NUM_ROWS) != MASKED,
    "ignore_label": IGNORE_LABEL,
    "invalid_labels": "ignore",
    "example_weights": _RANDOM.uniform(0.25, 2.0, size=NUM_ROWS),
    "class_weights": _RANDOM.uniform(0.5, 2.0, size=NUM_CLASSES),
    "label_smoothing": 0.125,
    "class_mask": np.arange(NUM_CLASSES) != LEFT_OUT,
    "z_loss": 0.0625,
    "temperature": 1.5,
    "focal_gamma": 1.5,
    "softcap": 6.0,
    "logit_adjustment": _RANDOM.uniform(-2.0, 0.0, size=NUM_CLASSES),
    "top_k_examples": 5,
}
BY_CLASS = ("class_weights", "logit_adjustment", "class_mask")
# What implementations elsewhere get wrong where classes are in shards.
OFTEN_WRONG = ("label_smoothing", "ignore_label", "class_weights", "z_loss", "focal_gamma")

OPERANDS = {
    "logits": {"logits": LOGITS_ALONE},
    "linear": {"inputs": INPUTS, "weights": WEIGHTS, "biases": BIASES},
}
CLASS_AXIS = {"logits": 1, "weights": 1, "biases": 0, "class_weights": 0, "logit_adjustment": 0}


class Case(
    collections.namedtuple(
        "Case",
        "loss options num_shards strategy labels reduction num_tasks chunk_size transposed lists",
        defaults=(3, "div", "every", Reduction.NONE, 3, None, False, False),
    )
):
    """One call of a loss.

    Attributes:
      loss: "logits" or "linear".
      options: names of `OPTIONS`.
      num_shards, strategy: of the classes.
      labels: one of `LABELS`.
      reduction: one of `Reduction`.
      num_tasks: over how many tasks the shards go.
      chunk_size: the argument.
      transposed: whether weights are [num_classes, dim].
      lists: whether options by class are in shards too.
    """

    def __str__(self):
        return ", ".join(f"{name} {value}" for name, value in zip(self._fields, self))

    @property
    def integers(self):
        """The labels of this case."""
        found = LABELS[self.labels].copy()
        if "class_mask" in self.options:
            found[found == LEFT_OUT] = 0
        if "ignore_label" in self.options:
            found[IGNORED] = IGNORE_LABEL
        if "invalid_labels" in self.options:
            found[list(INVALID)] = list(INVALID.values())
        return found

    @property
    def operands(self):
        """What is differentiated, whole: {name: array}."""
        found = dict(OPERANDS[self.loss])
        for name in ("example_weights", "class_weights", "logit_adjustment"):
            if name in self.options:
                found[name] = OPTIONS[name]
        return found

    @property
    def constants(self):
        """The options that are not differentiated."""
        operands = self.operands
        return {name: OPTIONS[name] for name in self.options if name not in operands}

    @property
    def vectors(self):
        """What the Hessian is multiplied by."""
        random = np.random.RandomState(5)
        return {name: random.normal(size=value.shape) for name, value in self.operands.items()}

    def cut(self, name, whole):
        """The shards of an array that has all classes, or the array itself where it is not cut."""
        if name not in CLASS_AXIS or (name in BY_CLASS and not self.lists):
            return whole
        return cut(whole, CLASS_AXIS[name], self.num_shards, self.strategy)

    def joined(self, name, parts):
        """Undoes `cut`."""
        if not isinstance(parts, list):
            return parts
        return joined(parts, CLASS_AXIS[name], self.strategy)

    def total(self, loss):
        """What is differentiated."""
        return tf.reduce_sum(loss * MIX) if self.reduction == Reduction.NONE else loss


def cut(whole, axis, num_shards, strategy):
    """The shards of an array along an axis."""
    if strategy == "div":
        return np.array_split(whole, num_shards, axis)
    numbers = range(num_shards)
    return [np.take(whole, range(s, whole.shape[axis], num_shards), axis) for s in numbers]


def joined(parts, axis, strategy):
    """Undoes `cut`."""
    whole = np.concatenate(parts, axis)
    if strategy == "div":
        return whole
    order = cut(np.arange(whole.shape[axis]), 0, len(parts), strategy)
    return np.take(whole, np.argsort(np.concatenate(order)), axis)


# --- In tasks -----------------------------------------------------------------------------------


def shard_device(case, devices, number):
    """Where shard `number` is; several may share a task."""
    return devices[number % case.num_tasks]


def sharded(case, devices):
    """Builds the loss over shards on devices, and its derivatives.

    Returns:
      (loss, gradient, product), these two dicts by operand, of tensors or lists of shards.
    """
    given = {name: case.cut(name, value) for name, value in case.operands.items()}
    tensors = {name: _placed(case, devices, value) for name, value in given.items()}
    vectors = {name: _placed(case, devices, case.cut(name, v)) for name, v in case.vectors.items()}
    loss = call_sharded(case, tensors)
    gradient = _gradient(case.total(loss), tensors)
    along = [
        _product(g, v)
        for name in tensors
        for g, v in zip(_as_list(gradient[name]), _as_list(vectors[name]))
    ]
    return loss, gradient, _gradient(tf.add_n(along), tensors)


def call_sharded(case, tensors):
    """The library's loss of tensors and lists of shards."""
    tensors, options = dict(tensors), dict(case.constants)
    if case.transposed:
        turned = []
        for part in tensors["weights"]:
            with on_device_of(part):
                turned.append(tf.transpose(part))
        tensors["weights"] = turned
        options["transpose_weights"] = True
    if case.lists and "class_mask" in options:
        options["class_mask"] = cut(options["class_mask"], 0, case.num_shards, case.strategy)
    if case.chunk_size is not None:
        options["chunk_size"] = case.chunk_size
    options.update(partition_strategy=case.strategy, reduction=case.reduction)
    if case.loss == "logits":
        shards = tensors.pop("logits")
        return losses.sharded_softmax_cross_entropy(case.integers, shards, **tensors, **options)
    return losses.linear_softmax_cross_entropy(case.integers, **tensors, **options)


def _placed(case, devices, value):
    """A tensor of an array; of a list of arrays a list of tensors, each on its shard's device."""
    if not isinstance(value, list):
        return tf.placeholder_with_default(value, value.shape)
    tensors = []
    for number, part in enumerate(value):
        with tf.device(shard_device(case, devices, number)):
            tensors.append(tf.placeholder_with_default(part, part.shape))
    return tensors


def on_device_of(tensor):
    """Where a tensor is, if that is said."""
    return tf.device(tensor.device or None)


def _as_list(value):
    return value if isinstance(value, list) else [value]


def _product(gradient, vector):
    with on_device_of(vector):
        return tf.reduce_sum(gradient * vector)


def _gradient(value, tensors):
    """Of a scalar, in all tensors, in the form in which these are given."""
    flat = [tensor for parts in tensors.values() for tensor in _as_list(parts)]
    found = iter(tf.gradients(value, flat, colocate_gradients_with_ops=True))
    result = {}
    for name, parts in tensors.items():
        filled = [_or_zeros(next(found), tensor) for tensor in _as_list(parts)]
        result[name] = filled if isinstance(parts, list) else filled[0]
    return result


def _or_zeros(gradient, tensor):
    """A derivative; there is none where nothing depends on the tensor."""
    if gradient is not None:
        return tf.convert_to_tensor(gradient)
    with on_device_of(tensor):
        return tf.zeros_like(tensor)


# --- In one process -----------------------------------------------------------------------------


def single(case):
    """Builds the same from all logits in one tensor; returns what `sharded` does, not in shards."""
    tensors = {name: tf.placeholder_with_default(v, v.shape) for name, v in case.operands.items()}
    given = {name: tensors[name] for name in tensors if name not in OPERANDS[case.loss]}
    if case.loss == "logits":
        logits = tensors["logits"]
    else:
        logits = tf.matmul(tensors["inputs"], tensors["weights"]) + tensors["biases"]
    given["weights"] = given.pop("example_weights", 1.0)
    options = dict(case.constants, reduction=case.reduction, **given)
    loss = losses.sparse_softmax_cross_entropy(case.integers, logits, **options)
    gradient = _gradient(case.total(loss), tensors)
    along = [tf.reduce_sum(gradient[name] * vector) for name, vector in case.vectors.items()]
    return loss, gradient, _gradient(tf.add_n(along), tensors)


# --- By the oracle ------------------------------------------------------------------------------


def of_oracle(case):
    """The same in 100 digits, rounded; None for what the oracle has no definition of."""
    if "top_k_examples" in case.options or case.reduction != Reduction.NONE:
        return None
    loss, gradient, product = _of_oracle(case.loss, tuple(sorted(case.options)), case.labels)
    return loss, dict(gradient), dict(product)


@functools.lru_cache(maxsize=None)
def _of_oracle(loss, options, labels):
    case = Case(loss, options, labels=labels)
    operands, vectors = case.operands, case.vectors
    point, direction = dict(operands), dict(vectors)
    if loss == "linear":
        inputs, weights, biases = (point.pop(name) for name in OPERANDS["linear"])
        d_inputs, d_weights, d_biases = (direction.pop(name) for name in OPERANDS["linear"])
        point["logits"] = LOGITS
        direction["logits"] = d_inputs @ weights + inputs @ d_weights + d_biases
    for arrays in (point, direction):
        if "example_weights" in arrays:
            arrays["weights"] = arrays.pop("example_weights")
    oracle = OptionReference(case.integers, **point, **case.constants)
    losses_by_row = oracle.loss()
    results = oracle.derivatives(direction, MIX)
    for found in results:
        if "weights" in found:
            found["example_weights"] = found.pop("weights")
    if loss == "linear":
        # Of logits(inputs, weights, biases): the chain rule, and its own derivative.
        first, second = (found.pop("logits") for found in results)
        results[0].update(
            inputs=first @ weights.T, weights=inputs.T @ first, biases=first.sum(axis=0)
        )
        results[1].update(
            inputs=second @ weights.T + first @ d_weights.T,
            weights=inputs.T @ second + d_inputs.T @ first,
            biases=second.sum(axis=0),
        )
    return (losses_by_row, *results)
