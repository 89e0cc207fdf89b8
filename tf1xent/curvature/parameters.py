"""The map between variables and one flat vector."""

from typing import Dict, List, Sequence

import numpy as np

from tf1xent._typing import Tensor
from tf1xent.curvature.differentiation import as_list


class Parameters:
    """Variables or tensors as one float64 vector: in the order given, each in C order."""

    def __init__(self, xs: Sequence[Tensor]) -> None:
        self.tensors = as_list(xs)
        self.names = [x.name.split(":")[0] for x in self.tensors]
        self.shapes = [tuple(x.shape.as_list()) for x in self.tensors]
        self.sizes = [int(np.prod(shape, dtype=np.int64)) for shape in self.shapes]
        ends = np.cumsum([0, *self.sizes])
        self.slices: Dict[str, slice] = {
            name: slice(int(begin), int(end))
            for name, begin, end in zip(self.names, ends[:-1], ends[1:])
        }
        self.size = int(ends[-1])

    def flatten(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Returns one float64 vector."""
        return np.concatenate([np.ravel(array).astype(np.float64) for array in arrays])

    def unflatten(self, vector: np.ndarray) -> List[np.ndarray]:
        """Returns one array for each variable, of its shape and dtype."""
        return [
            np.reshape(vector[part], shape).astype(x.dtype.base_dtype.as_numpy_dtype)
            for part, shape, x in zip(self.slices.values(), self.shapes, self.tensors)
        ]
