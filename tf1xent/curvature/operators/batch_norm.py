"""Batch normalization in second derivatives: which statistics it uses, and whether they count.

In training mode a batch is normalized by its own mean and variance, which depend on the variables
before the layer::

    y = scale (x - mean) / sqrt(variance + epsilon) + offset

"frozen" derivatives, of every order, hold the two constant, at their values for the batch; "batch"
derivatives include them. Found are TensorFlow's fused ops, and what `tf.nn.moments` over the batch
axis builds, which is also in the layers of tf.layers and Keras. Statistics from other ops, such as
a `tf.reduce_mean` in a program's own normalization, are differentiated in both modes.
"""

import contextlib
from typing import Any, Dict, Iterable, Iterator, Optional, Set, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.curvature.behind import Behind, ops_behind
from tf1xent.second_order.moments import Moments, moments_of, read_from

FROZEN, BATCH = "frozen", "batch"
_FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
# Ops that hand a statistic on; of a branch both sides count.
_PASSING = (
    *("Identity", "Squeeze", "Reshape", "Cast", "Enter", "Switch", "Merge", "Select", "SelectV2"),
    *("ReadVariableOp", "If", "StatelessIf"),
)
_BRANCHES = {"Select": 0, "SelectV2": 0, "If": 0, "StatelessIf": 0, "Switch": 1}


def batch_norm_statistics(tensors: Iterable[Tensor], mode: str) -> Dict[str, str]:
    """Returns which statistics each batch normalization behind `tensors` uses, by op name.

    "batch, held constant", "batch", "moving averages", or "decided by TENSOR", where a predicate
    chooses between the batch's and the moving averages.
    """
    of_batch = "batch, held constant" if mode == FROZEN else "batch"
    found = {}
    for op in ops_behind(tensors):
        uses = _fused_statistics(op) if op.op.type in _FUSED else _moments_statistics(op)
        if uses is not None:
            found[op.name] = of_batch if uses == BATCH else uses
    return dict(sorted(found.items()))


def _fused_statistics(found: Behind) -> Optional[str]:
    if found.condition is not None:
        return f"decided by {found.condition}"
    return BATCH if found.op.get_attr("is_training") else "moving averages"


def _moments_statistics(found: Behind) -> Optional[str]:
    """Of the op that takes 1 / sqrt(variance + epsilon)."""
    op = found.op
    if op.type != "Rsqrt" or op.inputs[0].op.type not in ("Add", "AddV2"):
        return None
    of_batch, moving, conditions = _sources(op.inputs[0].op.inputs[0])
    if of_batch and moving:
        return f"decided by {' and '.join(sorted(conditions)) or 'the graph'}"
    return BATCH if of_batch else "moving averages" if moving else None


def _sources(variance: Tensor) -> Tuple[bool, bool, Set[str]]:
    """Whether a variance comes from the batch, from a variable, and what tensors decide."""
    of_batch = moving = False
    conditions: Set[str] = set()
    pending, seen = [variance.op], set()
    while pending:
        op = pending.pop()
        if op.name in seen:
            continue
        seen.add(op.name)
        moments = moments_of(op)
        of_batch |= moments is not None and _is_of_batch(moments)
        moving |= op.type in _tf.VARIABLES
        if op.type in _PASSING:
            decides = _BRANCHES.get(op.type)
            if decides is not None:
                conditions.add(read_from(op.inputs[decides]).name)
            pending += [t.op for i, t in enumerate(op.inputs) if i != decides]
    return of_batch, moving, conditions


def _is_of_batch(found: Moments) -> bool:
    """Whether they are over the batch axis, and of data instead of a variable."""
    axes = _tf.static_value(found.mean.inputs[1])
    x = found.x.op
    while x.type in ("Identity", "Reshape", "Cast", "ReadVariableOp"):
        x = x.inputs[0].op
    return axes is not None and 0 in axes.reshape(-1) and x.type not in _tf.VARIABLES


# --- Derivatives ----------------------------------------------------------------------------------


@contextlib.contextmanager
def batch_norm_derivatives(tensors: Iterable[Tensor], mode: str) -> Iterator[None]:
    """While gradient ops of `tensors` are built, those of batch statistics are as the mode says."""
    if mode != FROZEN:
        yield
        return
    ops = {found.op.name: found.op for found in ops_behind(tensors)}
    statistics = {
        op.name
        for found in filter(None, map(moments_of, ops.values()))
        if _is_of_batch(found)
        for op in (found.mean, found.variance)
    }

    def mean(stock: Any, op: Operation, cotangent: Tensor) -> Any:
        return [None, None] if op.name in statistics else stock(op, cotangent)

    with _tf.swapped_gradients({"Mean": mean, **dict.fromkeys(_FUSED, _frozen)}):
        yield


def _frozen(stock: Any, op: Operation, *cotangents: Optional[Tensor]) -> Any:
    """The gradient of a fused batch normalization whose mean and variance are constants.

    With n = (x - mean) / sqrt(variance + epsilon) and the cotangent u::

        d / dx = u scale / sqrt(variance + epsilon)     d / dscale = sum u n     d / doffset = sum u

    The op's own output of the variance is that of the sample on CPUs and the inverse root on GPUs,
    so it is computed anew.
    """
    if not op.get_attr("is_training"):
        return stock(op, *cotangents)
    scale, layout = op.inputs[1], op.get_attr("data_format").decode()
    x, u = (tf.cast(tensor, scale.dtype) for tensor in (op.inputs[0], cotangents[0]))
    axes = [axis for axis, letter in enumerate(layout) if letter != "C"]
    mean = tf.stop_gradient(tf.reduce_mean(x, axes, keepdims=True))
    variance = tf.stop_gradient(tf.reduce_mean(tf.square(x - mean), axes, keepdims=True))
    root = tf.rsqrt(variance + op.get_attr("epsilon"))
    in_x = u * (tf.reshape(scale, tf.shape(root)) * root)
    in_scale = tf.reduce_sum(u * ((x - mean) * root), axes)
    return tf.cast(in_x, op.inputs[0].dtype), in_scale, tf.reduce_sum(u, axes), None, None
