"""The models: an MLP, a CNN and an RNN tagger, with their loss and their update."""

from typing import Any, Dict, NamedTuple, Tuple

import numpy as np

from diagnostics import data
from diagnostics.recipes import Parts, Recipe
from tf1xent._tf import tf


class Built(NamedTuple):
    """The tensors and ops of a training."""

    loss: Any
    update: Any
    step: Any
    variables: Dict[str, Any]
    optimizer: Any


def build(recipe: Recipe, features: Any, labels: Any, weights: Any) -> Built:
    """Builds a training in the default graph."""
    step = tf.train.get_or_create_global_step()
    variables = {n: _variable(recipe, n, value) for n, value in recipe.values().items()}
    used = {n: tf.cast(v, recipe.dtype) for n, v in variables.items()}
    if recipe.dtype == recipe.dtype_of_variables and recipe.plan.variables != "partitioned":
        used = variables
    features = recipe.features(tf.cast(features, recipe.dtype))
    weights = tf.cast(weights, recipe.dtype)
    hidden = _FORWARD[recipe.plan.model](recipe, used, features, weights)
    hidden = recipe.between(hidden)
    with tf.name_scope("output"):
        logits = tf.matmul(hidden, used["output/kernel"]) + used["output/bias"]
    logits = recipe.logits(logits)
    labels = tf.reshape(labels, [-1])
    parts = Parts(features, hidden, logits, labels, used)
    with tf.name_scope("loss"):
        loss = recipe.mean(recipe.losses(logits, labels), tf.reshape(weights, [-1]))
        if recipe.penalty is not None:
            loss += recipe.penalty(parts)
    optimizer = recipe.optimizer(recipe.rate(step))
    chosen = [v for v in tf.trainable_variables() if recipe.trained(v.op.name)]
    scaled = loss if recipe.scale == 1 else loss * recipe.scale
    pairs = optimizer.compute_gradients(scaled, chosen)
    if recipe.scale != 1:
        pairs = [(g if g is None else g / recipe.scale, v) for g, v in pairs]
    update = optimizer.apply_gradients(recipe.gradients(pairs), global_step=step)
    others = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    return Built(loss, tf.group(update, *others), step, variables, optimizer)


def _variable(recipe: Recipe, name: str, value: np.ndarray) -> Any:
    kind = recipe.plan.variables
    options: Dict[str, Any] = {"trainable": recipe.trainable(name)}
    if kind == "partitioned" and value.ndim > 1:
        options["partitioner"] = tf.fixed_size_partitioner(2)

    def initial(shape: Any, dtype: Any = None, partition_info: Any = None) -> Any:
        start = [0] * value.ndim if partition_info is None else partition_info.var_offset
        part = value[tuple(slice(a, a + n) for a, n in zip(start, tuple(shape)))]
        return tf.constant(part, recipe.dtype_of_variables)

    return tf.get_variable(
        name,
        list(value.shape),
        recipe.dtype_of_variables,
        initial,
        use_resource=kind != "reference",
        **options,
    )


def _mlp(recipe: Recipe, variables: Dict[str, Any], x: Any, weights: Any) -> Any:
    for i in range(recipe.plan.depth):
        with tf.name_scope(f"hidden{i}"):
            x = tf.matmul(x, variables[f"hidden{i}/kernel"]) + variables[f"hidden{i}/bias"]
            x = recipe.activation(x)
    return x


def _cnn(recipe: Recipe, variables: Dict[str, Any], x: Any, weights: Any) -> Any:
    with tf.name_scope("conv"):
        x = tf.nn.conv2d(x, variables["conv/kernel"], strides=[1, 1, 1, 1], padding="SAME")
        x = recipe.activation(tf.nn.bias_add(x, variables["conv/bias"]))
        x = tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
        return tf.reshape(x, [-1, 16 * recipe.plan.hidden])


class _Cell:
    """A recurrent cell as `tf.nn.dynamic_rnn` takes it."""

    def __init__(self, recipe: Recipe, variables: Dict[str, Any]) -> None:
        self._recipe, self._variables = recipe, variables
        self.output_size = self.state_size = recipe.plan.hidden

    def zero_state(self, size: Any, dtype: Any) -> Any:
        return tf.zeros([size, self.state_size], dtype)

    def __call__(self, x: Any, state: Any, scope: Any = None) -> Tuple[Any, Any]:
        v = self._variables
        read = tf.matmul(x, v["cell/kernel"]) + tf.matmul(state, v["cell/recurrent"])
        state = self._recipe.activation(read + v["cell/bias"])
        return state, state


def _tagger(recipe: Recipe, variables: Dict[str, Any], x: Any, weights: Any) -> Any:
    cell = _Cell(recipe, variables)
    if recipe.plan.seed % 2:
        lengths = tf.cast(tf.reduce_sum(tf.cast(weights > 0, tf.float32), 1), tf.int32)
        x = tf.nn.dynamic_rnn(cell, x, lengths, dtype=recipe.dtype)[0]
    else:
        x = _unroll(cell, x, recipe.dtype)
    return tf.reshape(x, [-1, recipe.plan.hidden])


def _unroll(cell: _Cell, x: Any, dtype: Any) -> Any:
    """Runs a cell over all steps by `tf.while_loop`."""
    read = tf.TensorArray(dtype, data.SIDE).unstack(tf.transpose(x, [1, 0, 2]))
    written = tf.TensorArray(dtype, data.SIDE)
    state = cell.zero_state(tf.shape(x)[0], dtype)

    def body(i: Any, state: Any, written: Any) -> Any:
        state, output = cell(read.read(i), state)
        return i + 1, state, written.write(i, output)

    shapes = [tf.TensorShape([]), tf.TensorShape([None, cell.state_size]), tf.TensorShape(None)]
    loop = tf.while_loop(
        lambda i, *_: i < data.SIDE, body, [0, state, written], shape_invariants=shapes
    )
    return tf.transpose(loop[2].stack(), [1, 0, 2])


_FORWARD = {"MLP": _mlp, "CNN": _cnn, "tagger": _tagger}
