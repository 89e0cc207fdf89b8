"""The map between variables and one flat vector."""

import re
from typing import Any, Dict, List, Sequence, Union

import numpy as np

from tf1xent._typing import Tensor
from tf1xent.curvature.products.differentiation import as_list

# What tf.get_variable appends to the name of each part of a partitioned variable.
_PART = re.compile(r"/part_\d+$")


class Parameters:
    """Variables or tensors as one float64 vector, in the order given and each in C order.

    An operator makes one, as its attribute `parameters`; `unflatten` turns an eigenvector into
    arrays of the variables' shapes.

    Args:
      xs: a variable, a tensor, or a list of them, float, of static shape. A partitioned variable
        counts as its parts, in their order.

    Attributes:
      tensors: the variables or tensors.
      names: of the variables, without the ``:0``.
      shapes: a tuple of integers each.
      sizes: the number of entries of each.
      slices: by name, the part of the flat vector.
      size: of the flat vector.

    Raises:
      TypeError: one is not a variable or tensor, or not of a real float dtype.
      ValueError: there is none, a shape is not fully static, or one is given twice.

    Example:

    >>> import numpy as np
    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import Parameters
    >>> with tf.Graph().as_default():
    ...     with tf.variable_scope("dense"):
    ...         kernel = tf.get_variable("kernel", [2, 3])
    ...         bias = tf.get_variable("bias", [3])
    ...     parameters = Parameters([kernel, bias])
    >>> parameters.size, parameters.slices["dense/bias"]
    (9, slice(6, 9, None))
    >>> parameters.layers()
    {'dense': ['dense/kernel', 'dense/bias']}
    >>> print(parameters.unflatten(np.arange(9.0))[0])
    [[0. 1. 2.]
     [3. 4. 5.]]
    """

    def __init__(self, xs: Any) -> None:
        self.tensors: List[Tensor] = as_list(xs)
        if not self.tensors:
            raise ValueError(
                "Parameters: `xs` must hold a variable or tensor, got none. "
                "Pass tf.trainable_variables()."
            )
        for x in self.tensors:
            _check(x)
        self.names = [name_of(x) for x in self.tensors]
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(
                f"Parameters: `xs` must name each variable once, got {', '.join(twice)} more than "
                "once. Leave the others out."
            )
        self.shapes = [tuple(x.shape.as_list()) for x in self.tensors]
        self.sizes = [int(np.prod(shape, dtype=np.int64)) for shape in self.shapes]
        ends = [0, *np.cumsum(self.sizes, dtype=np.int64)]
        self.slices: Dict[str, slice] = {
            name: slice(int(begin), int(end))
            for name, begin, end in zip(self.names, ends[:-1], ends[1:])
        }
        self.size = int(ends[-1])

    def flatten(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Returns one float64 vector of an array for each variable.

        Raises:
          ValueError: the number of arrays or a shape is not that of the variables.
        """
        arrays = [np.asarray(array) for array in arrays]
        if len(arrays) != len(self.names):
            raise ValueError(
                f"Parameters.flatten: `arrays` must be one for each of the {len(self.names)} "
                f"variables, got {len(arrays)}. Keep the order of `names`."
            )
        for array, shape, name in zip(arrays, self.shapes, self.names):
            if array.shape != shape:
                raise ValueError(
                    f"Parameters.flatten: the array for {name} must have the shape {shape}, got "
                    f"{array.shape}. Keep the order of `names`."
                )
        return np.concatenate([np.ravel(array).astype(np.float64) for array in arrays])

    def unflatten(self, vector: np.ndarray) -> List[np.ndarray]:
        """Returns one array for each variable, of its shape and dtype.

        Raises:
          TypeError: the vector is complex.
          ValueError: its shape is not [size].
        """
        vector = np.asarray(vector)
        if vector.shape != (self.size,):
            raise ValueError(
                f"Parameters.unflatten: `vector` must have the shape ({self.size},), got "
                f"{vector.shape}. Its entries are in the order of `names`."
            )
        if np.iscomplexobj(vector):
            raise TypeError(
                "Parameters.unflatten: `vector` must be real, got dtype "
                f"{vector.dtype}. Pass its real and its imaginary part in two calls."
            )
        return [
            np.reshape(vector[part], shape).astype(x.dtype.base_dtype.as_numpy_dtype)
            for part, shape, x in zip(self.slices.values(), self.shapes, self.tensors)
        ]

    def layers(self) -> Dict[str, List[str]]:
        """Returns the names of the variables by layer, which is the name scope of a variable.

        The layer of "dense/kernel" is "dense". A variable without a scope is a layer of its own;
        the parts of a partitioned variable are in one layer.
        """
        found: Dict[str, List[str]] = {}
        for name in self.names:
            whole = _PART.sub("", name)
            found.setdefault(whole.rpartition("/")[0] or whole, []).append(name)
        return found

    def select(self, selection: Any) -> List[Tensor]:
        """Returns some of the variables, in the order of these parameters.

        Args:
          selection: the name of a layer or of a variable, a variable or tensor, or a list of them.
            A name that is both means the layer.

        Raises:
          ValueError: a name or variable is not among these, or none is selected.
        """
        wanted: List[Union[str, Tensor]] = []
        for item in selection if isinstance(selection, (list, tuple)) else [selection]:
            wanted += [item] if isinstance(item, str) else as_list(item)
        layers = self.layers()
        names = set()
        for item in wanted:
            name = item if isinstance(item, str) else name_of(item)
            of_layer = layers.get(name) if isinstance(item, str) else None
            if of_layer is None and not self._holds(item):
                raise ValueError(
                    f"Parameters.select: `selection` must be of these variables, got {name!r}. "
                    f"There are the layers {', '.join(layers)} and the variables "
                    f"{', '.join(self.names)}."
                )
            names.update(of_layer or [_without_output(name)])
        if not names:
            raise ValueError(
                "Parameters.select: `selection` must name a variable, got none. "
                f"There are the layers {', '.join(layers)}."
            )
        return [x for x, name in zip(self.tensors, self.names) if name in names]

    def _holds(self, item: Union[str, Tensor]) -> bool:
        if isinstance(item, str):
            return _without_output(item) in self.slices
        return any(item is x for x in self.tensors)


def name_of(x: Tensor) -> str:
    """Returns the name of a variable or tensor, without the ``:0``."""
    return _without_output(str(x.name))


def _without_output(name: str) -> str:
    return name[:-2] if name.endswith(":0") else name


def _check(x: Any) -> None:
    if not all(hasattr(x, attribute) for attribute in ("dtype", "shape", "name", "graph")):
        raise TypeError(
            f"Parameters: `xs` must be variables or tensors of a graph, got {type(x).__name__}. "
            "Pass tf.trainable_variables()."
        )
    if not x.dtype.base_dtype.is_floating:
        raise TypeError(
            f"Parameters: `xs` must be float, got {name_of(x)} of {x.dtype.base_dtype.name}. "
            "Leave it out."
        )
    if not x.shape.is_fully_defined():
        raise ValueError(
            f"Parameters: `xs` must have static shapes, got {name_of(x)} of shape {x.shape}. "
            "Set its shape, or leave it out."
        )
