"""Whether a checkpoint holds what a graph's saver would restore, before anything is restored."""

import os
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import DType, Graph, Operation, Tensor
from tf1xent.errors import GraphFileError

_MOST_NAMES = 5


class Restored(NamedTuple):
    """What a saver restores.

    Attributes:
      name: in the checkpoint.
      shape: that it must have there; None where the graph does not say.
      dtype: that it must have there.
    """

    name: str
    shape: Optional[List[int]]
    dtype: DType


def find_checkpoint(path: str) -> Optional[str]:
    """Returns the prefix of a checkpoint: of a prefix, one of its files, or the newest of a folder.

    None if there is none. The file ``checkpoint`` of a folder may name a path of another machine.
    """
    if os.path.isdir(path):
        state = tf.train.get_checkpoint_state(path)
        if state is None or not state.model_checkpoint_path:
            return None
        named = state.model_checkpoint_path
        here = os.path.join(path, os.path.basename(named.replace("\\", "/")))
        return next((prefix for prefix in (named, here) if _is_there(prefix)), None)
    for ending in (".index", ".meta"):
        if path.endswith(ending) and _is_there(path[: -len(ending)]):
            return path[: -len(ending)]
    return path if _is_there(path) else None


def _is_there(prefix: str) -> bool:
    # A checkpoint of the first format is one file of that name.
    return os.path.isfile(prefix + ".index") or os.path.isfile(prefix)


def check_checkpoint(graph: Graph, restore_op: str, prefix: str, where: str) -> None:
    """Checks a checkpoint against the ops that restore from it.

    Args:
      graph: a `tf.Graph` with a saver's ops.
      restore_op: the name of the op that restores all.
      prefix: the checkpoint's path.
      where: how an error begins: who asks, and for what graph.

    Raises:
      ValueError: variables are missing in the checkpoint, or have other shapes or dtypes there.
      tf1xent.errors.GraphFileError: the checkpoint cannot be read.
    """
    try:
        reader = tf.train.NewCheckpointReader(prefix)
        shapes: Dict[str, List[int]] = reader.get_variable_to_shape_map()
        dtypes: Dict[str, Any] = reader.get_variable_to_dtype_map()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        line = _tf.error_line(error)
        raise GraphFileError(f"{where}: {prefix} is no checkpoint: {line}") from error
    missing, other = [], []
    for wanted in _restored(graph, restore_op):
        if wanted.name not in shapes:
            missing.append(wanted.name)
        elif wanted.shape is not None and list(shapes[wanted.name]) != wanted.shape:
            other.append(f"{wanted.name} {shapes[wanted.name]} for {wanted.shape}")
        elif tf.as_dtype(dtypes[wanted.name]).base_dtype != wanted.dtype:
            name = tf.as_dtype(dtypes[wanted.name]).name
            other.append(f"{wanted.name} of {name} for {wanted.dtype.name}")
    faults = []
    if missing:
        faults.append(f"has no {listed(missing)}")
    if other:
        faults.append(f"has {listed(other)}")
    if faults:
        raise ValueError(
            f"{where}: {prefix} must be a checkpoint of this graph, but it {' and '.join(faults)}. "
            "Give one that the same program wrote."
        )


def listed(names: Sequence[str], most: int = _MOST_NAMES) -> str:
    """Names the first few."""
    names = list(dict.fromkeys(names))  # the parts of a variable have one name
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _restored(graph: Graph, restore_op: str) -> Iterator[Restored]:
    """Yields what the ops behind a saver's restore op read from a checkpoint."""
    waiting = [graph.get_operation_by_name(restore_op.split(":")[0])]
    seen = set()
    while waiting:
        op = waiting.pop()
        if op.name in seen:
            continue
        seen.add(op.name)
        if op.type == "RestoreV2":
            yield from _read(op)
        else:
            waiting += [*op.control_inputs, *(tensor.op for tensor in op.inputs)]


def _read(op: Operation) -> Iterator[Restored]:
    names, slices = (_tf.static_value(op.inputs[position]) for position in (1, 2))
    if names is None or slices is None:
        return
    for output, name, part in zip(op.outputs, names.ravel(), slices.ravel()):
        # "10 20 0,5:0,20" is a part of a variable of the shape [10, 20].
        full = part.decode().split(" ")[:-1]
        shape = [int(size) for size in full] if full else _variable_shape(output)
        yield Restored(name.decode("utf-8", "replace"), shape, output.dtype.base_dtype)


def _variable_shape(tensor: Tensor) -> Optional[List[int]]:
    """Returns the static shape of the variable that a restored tensor is assigned to, or None."""
    for op in tensor.consumers():
        if op.type == "Identity":
            return _variable_shape(op.outputs[0])
        if op.type == "Assign":
            shape = op.inputs[0].shape
        elif op.type == "AssignVariableOp" and op.inputs[0].op.type == "VarHandleOp":
            shape = tf.TensorShape(op.inputs[0].op.get_attr("shape"))
        else:
            continue
        return shape.as_list() if shape.is_fully_defined() else None
    return None
