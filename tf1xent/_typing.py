"""Names for the types of what travels through the package.

TensorFlow ships no types that hold over all its versions, so the aliases of its objects say to a
reader what a type checker cannot check.
"""

import os
from typing import Any, Optional, Sequence, Union

import numpy as np

# A tf.Tensor, or a tf.Variable where one is read.
Tensor = Any
# Whatever tf.convert_to_tensor takes.
TensorLike = Union[Tensor, np.ndarray, Sequence[Any], float, int, bool]
# [..., num_classes] of half, bfloat16, float32 or float64; the class axis may be another.
Logits = TensorLike
# Integer labels, of the logits' shape without the class axis; or distributions of their shape.
Labels = TensorLike
DType = Any
TensorShape = Any
Operation = Any
Graph = Any
GraphDef = Any
NodeDef = Any
MetaGraphDef = Any
SavedModel = Any
FunctionDef = Any
OpDef = Any
# Any message of a protocol buffer, and its class.
Proto = Any
ProtoClass = Any
Session = Any
# One of the strings of `tf1xent.losses.Reduction`.
ReductionName = str
Path = Union[str, "os.PathLike[str]"]
# What reports and rewrites read: a graph in memory, or the path of a file or folder that holds one.
GraphSource = Union[Graph, GraphDef, MetaGraphDef, SavedModel, Path]
Name = Optional[str]
