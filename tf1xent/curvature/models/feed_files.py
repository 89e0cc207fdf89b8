"""Feed dicts of batches, from arrays that are named like the tensors of a graph."""

import re
import zipfile
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from tf1xent._tf import tf
from tf1xent._typing import Graph, Operation, Path, Tensor
from tf1xent.curvature.models.candidates import shape_text
from tf1xent.curvature.models.checkpoints import listed

__all__ = ["FeedBatches", "feed_batches"]

# Ops that hand out the next batch; a file has not the state that they read.
_PIPELINE = re.compile(r"(Iterator.*GetNext|Queue(Dequeue|Read))")
_PLACEHOLDERS = ("Placeholder", "PlaceholderV2")
_MOST_NAMES = 8


class FeedBatches(NamedTuple):
    """Data as batches.

    Attributes:
      feeds: a feed dict for each batch.
      sizes: the number of examples in each; 1 where no array has examples.
    """

    feeds: List[Dict[Tensor, np.ndarray]]
    sizes: List[int]


def read_arrays(path: Path, caller: str = "read_arrays") -> Dict[str, np.ndarray]:
    """Reads the arrays of an .npz file, by name; never objects, which would run code.

    Raises:
      ValueError: it is no .npz file, or holds objects.
      OSError: it cannot be read.
    """
    with open(path, "rb") as file:  # a missing file is an error of its own
        is_zip = zipfile.is_zipfile(file)
    try:
        if not is_zip:
            raise ValueError("it is something else, or truncated")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # what zipfile, zlib and NumPy raise about damaged content
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise ValueError(
            f"{caller}: {path} must be an .npz file as numpy.savez writes it: {reason}."
        ) from error


def feed_batches(
    graph: Graph,
    tensors: Iterable[Tensor],
    arrays: Mapping[str, Any],
    batch_size: Optional[int] = None,
    *,
    caller: str = "feed_batches",
) -> FeedBatches:
    """Cuts named arrays into feed dicts of `batch_size` examples; the last may have fewer.

    Use it where the data stand in a file, as for `tf1xent spectrum`. An array is cut along its
    first axis, unless its tensor takes it only whole: a scalar, or a tensor whose static shape is
    that of the whole array. Those are fed to every batch. A ``placeholder_with_default`` keeps its
    default unless an array is given.

    Args:
      graph: a `tf.Graph`.
      tensors: what is going to be computed; every placeholder that they need must be fed.
      arrays: by the name of a placeholder, or of any other tensor that can be fed, with or without
        ``:0``.
      batch_size: the number of examples in a batch. Default: all in one.
      caller: names the function or command in errors.

    Returns:
      `FeedBatches`: feed dicts, and the number of examples in each.

    Raises:
      ValueError: a name is unknown; a shape or the number of examples does not fit; a placeholder
        that `tensors` need is missing, or an output of an input pipeline that they read.
      TypeError: the values of an array do not fit the dtype of its tensor.

    Example:

    >>> import numpy as np
    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature.models.feed_files import feed_batches
    >>> with tf.Graph().as_default() as graph:
    ...     x = tf.placeholder(tf.float32, [None, 2], name="x")
    ...     feeds, sizes = feed_batches(graph, [tf.reduce_sum(x)], {"x": np.zeros([5, 2])}, 2)
    >>> sizes, [feed[x].shape for feed in feeds]
    ([2, 2, 1], [(2, 2), (2, 2), (1, 2)])
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"{caller}: `batch_size` must be at least 1, got {batch_size}.")
    fed = named_feeds(graph, tensors, arrays, caller)
    whole = {tensor: array for tensor, array in fed.items() if _is_whole(tensor, array)}
    cut = {tensor: array for tensor, array in fed.items() if tensor not in whole}
    lengths = {tensor.name: len(array) for tensor, array in cut.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"`{name}` {length}" for name, length in sorted(lengths.items()))
        raise ValueError(f"{caller}: all arrays must have as many examples, got {found}.")
    total = next(iter(lengths.values()), None)
    if total is None:
        return FeedBatches([whole], [1])
    if total == 0:
        raise ValueError(f"{caller}: the arrays must hold an example, got 0.")
    step = batch_size or total
    parts = [slice(begin, min(begin + step, total)) for begin in range(0, total, step)]
    _check_shapes(cut, parts, caller)
    feeds = [{**whole, **{tensor: array[part] for tensor, array in cut.items()}} for part in parts]
    return FeedBatches(feeds, [part.stop - part.start for part in parts])


def named_feeds(
    graph: Graph, tensors: Iterable[Tensor], arrays: Mapping[str, Any], caller: str
) -> Dict[Tensor, np.ndarray]:
    """Returns a feed dict of whole arrays; the arguments are those of `feed_batches`.

    Raises:
      ValueError: a name is unknown, or something that `tensors` need is missing.
      TypeError: the values of an array do not fit the dtype of its tensor.
    """
    tensors = list(tensors)
    fed = [_fed(graph, tensors, name, value, caller) for name, value in arrays.items()]
    found = dict(fed)
    if len(found) < len(fed):
        raise ValueError(f"{caller}: each tensor must be given once, got {sorted(arrays)}.")
    _check_complete(tensors, list(found), caller)
    return found


def _fed(
    graph: Graph, tensors: List[Tensor], name: str, value: Any, caller: str
) -> Tuple[Tensor, np.ndarray]:
    """Returns the tensor that a name means, and an array of its dtype."""
    try:
        tensor = graph.as_graph_element(name if ":" in name else f"{name}:0")
    except (KeyError, ValueError):
        tensor = None
    if not isinstance(tensor, tf.Tensor) or not graph.is_feedable(tensor):
        placeholders, outputs = missing_inputs(tensors)
        names = [placeholder.op.name for placeholder in placeholders] + [t.name for t in outputs]
        there = (
            f"The loss needs {listed(names, _MOST_NAMES)}." if names else "The loss needs no feeds."
        )
        raise ValueError(f"{caller}: the graph has no tensor `{name}` that can be fed. {there}")
    array = np.asarray(value)
    wanted = tensor.dtype.base_dtype
    if wanted == tf.string and array.dtype.kind in "SU":
        return tensor, array.astype(object)
    fits = wanted != tf.string and np.can_cast(array.dtype, wanted.as_numpy_dtype, "same_kind")
    converted = array.astype(wanted.as_numpy_dtype) if fits else array
    if not fits or (array.dtype.kind in "iu" and not np.array_equal(converted, array)):
        raise TypeError(
            f"{caller}: the array `{name}` must have values that fit {wanted.name}, got "
            f"{array.dtype.name}. Convert it by astype."
        )
    return tensor, converted


def _is_whole(tensor: Tensor, array: np.ndarray) -> bool:
    """Whether a tensor takes an array only as a whole."""
    return array.ndim == 0 or (
        tensor.shape.is_fully_defined() and tuple(tensor.shape.as_list()) == array.shape
    )


def _check_shapes(cut: Mapping[Tensor, np.ndarray], parts: List[slice], caller: str) -> None:
    """ValueError for a tensor that does not take a batch."""
    for tensor, array in cut.items():
        for part in parts:
            shape = (part.stop - part.start, *array.shape[1:])
            if not tensor.shape.is_compatible_with(shape):
                raise ValueError(
                    f"{caller}: `{tensor.name}` must be fed with the shape {shape_text(tensor)}, "
                    f"got {list(shape)} of an array {list(array.shape)}. "
                    "Give arrays of examples along the first axis."
                    + _size_remedy(tensor, array, shape)
                )


def _size_remedy(tensor: Tensor, array: np.ndarray, shape: Tuple[int, ...]) -> str:
    """Says which batch size a tensor of a fixed one takes, if the rest of the shape fits."""
    size = tensor.shape.as_list()[0] if tensor.shape.ndims else None
    if not size or not tensor.shape.is_compatible_with((size, *array.shape[1:])):
        return ""
    return f" Its batches have {size} each: give that batch size and a multiple of it of examples."


def _check_complete(tensors: Iterable[Tensor], fed: List[Tensor], caller: str) -> None:
    placeholders, outputs = missing_inputs(tensors, fed)
    if placeholders:
        names = listed(
            [f"{t.op.name} {shape_text(t)} {t.dtype.name}" for t in placeholders], _MOST_NAMES
        )
        raise ValueError(f"{caller}: the loss needs placeholders that are not fed: {names}.")
    if outputs:
        names = listed([f"{t.name} {shape_text(t)} {t.dtype.name}" for t in outputs], _MOST_NAMES)
        raise ValueError(
            f"{caller}: the loss reads an input pipeline, which a file does not hold: {names}. "
            "Feed arrays under these names."
        )


def needed_ops(tensors: Iterable[Tensor], fed: Iterable[Tensor] = ()) -> Iterator[Operation]:
    """Yields the ops that run when tensors are fetched and others are fed, from the tensors on."""
    fed_names = {tensor.name for tensor in fed}
    waiting = [tensor.op for tensor in tensors if tensor.name not in fed_names]
    seen = {op.name for op in waiting}
    while waiting:
        op = waiting.pop()
        yield op
        sources = [t.op for t in op.inputs if t.name not in fed_names] + list(op.control_inputs)
        for source in sources:
            if source.name not in seen:
                seen.add(source.name)
                waiting.append(source)


def missing_inputs(
    tensors: Iterable[Tensor], fed: Iterable[Tensor] = ()
) -> Tuple[List[Tensor], List[Tensor]]:
    """Returns what has to be fed and is not: placeholders, and outputs of input pipelines."""
    tensors, fed = list(tensors), list(fed)
    fed_names = {tensor.name for tensor in fed}
    needed = list(needed_ops(tensors, fed))
    placeholders = {op.outputs[0].name: op.outputs[0] for op in needed if op.type in _PLACEHOLDERS}
    pipelines = {op.name for op in needed if _PIPELINE.match(op.type)}
    outputs = {t.name: t for op in needed for t in op.inputs if t.op.name in pipelines}
    return tuple(  # type: ignore[return-value]
        [found[name] for name in sorted(found) if name not in fed_names]
        for found in (placeholders, outputs)
    )
