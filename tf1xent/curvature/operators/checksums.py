"""Checksums of what a product depends on: ops, variables' values, data."""

import hashlib
from typing import Any, Dict, Iterable, List, Sequence

import numpy as np

from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.curvature.behind import ops_behind
from tf1xent.curvature.operators.batches import Batches


def checksum_of_ops(tensors: Iterable[Tensor]) -> str:
    """Returns the SHA-256 digest of the ops behind `tensors`: equal for equal computations.

    It takes in types, attributes with the values of constants, and the wiring, but no names. Ops
    are in the order in which the inputs are followed.
    """
    total = hashlib.sha256()
    for found in ops_behind(tensors):
        op = found.op
        wiring = [(tensor.op.type, tensor.value_index) for tensor in op.inputs]
        total.update(repr((op.type, wiring)).encode())
        for name, content in _attributes(op):
            total.update(name.encode() + content)
    return total.hexdigest()


def _attributes(op: Operation) -> List[Any]:
    """The attributes that count for values; functions go by what is in them, not by name."""
    return [
        (name, value.SerializeToString(deterministic=True))
        for name, value in sorted(op.node_def.attr.items())
        if not name.startswith("_") and not value.HasField("func") and not value.list.func
    ]


def checksum_of_arrays(names: Sequence[str], arrays: Sequence[Any]) -> str:
    """Returns the SHA-256 digest of named arrays."""
    total = hashlib.sha256()
    for name, array in zip(names, arrays):
        _add(total, name, array)
    return total.hexdigest()


def checksum_of_feeds(batches: Batches) -> Dict[str, str]:
    """Returns the digests of all feeds, and of the weights that are known from them."""
    data, weights = hashlib.sha256(), hashlib.sha256()
    for number, feed in enumerate(batches.read()):
        data.update(b"batch")
        for name, value in sorted((_name(key), value) for key, value in feed.items()):
            _add(data, name, value)
        weights.update(repr(batches.weight_before(number, feed)).encode())
    return {"data": data.hexdigest(), "weights": weights.hexdigest()}


def _name(key: Any) -> str:
    return str(getattr(key, "name", key))


def _add(total: Any, name: str, value: Any) -> None:
    if isinstance(value, tf.SparseTensorValue):
        for part, array in zip(value._fields, value):
            _add(total, f"{name}/{part}", array)
        return
    array = np.asarray(value)
    total.update(repr((name, array.dtype.str, array.shape)).encode())
    if array.dtype.hasobject:  # strings
        total.update(repr(array.tolist()).encode())
    else:
        total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
