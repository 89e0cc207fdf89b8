"""Where ops that are built now will run, as far as it is known before a session exists."""

import contextlib
import functools
from typing import Any, Iterator

import tensorflow.compat.v1 as tf
from tensorflow.python.client import device_lib
from tensorflow.python.framework import func_graph, function
from tensorflow.python.ops import control_flow_util, control_flow_util_v2

from tf1xent._typing import Tensor

# 1.13 has only the check of the current graph, without its parents.
_in_xla_context = getattr(
    control_flow_util, "GraphOrParentsInXlaContext", control_flow_util.InXlaContext
)

# Bodies of v2 branches and loops: parts of the graph, or of the function, around them.
_BRANCHES_AND_LOOPS = (
    control_flow_util_v2.CondBranchFuncGraph,
    control_flow_util_v2.WhileBodyFuncGraph,
    control_flow_util_v2.WhileCondFuncGraph,
)
# Those of tf.function and of Keras, and those of Defun.
_FUNCTION_GRAPHS = func_graph.FuncGraph, function._FuncGraph


class _Unplaced:
    """A stand-in, for device functions, for an op that does not exist yet."""

    name = ""
    inputs = ()
    outputs = ()

    def __init__(self, op_type: str) -> None:
        self.type = op_type
        self.device = ""
        self.node_def = tf.NodeDef(op=op_type)

    def _set_device(self, device: Any) -> None:
        self.device = device if isinstance(device, str) else device.to_string()

    _set_device_from_string = _set_device


def _device_in_force(op_type: str) -> str:
    """The device that tf.device and device functions give an op of a type, built now."""
    if tf.executing_eagerly():
        return tf.zeros([]).device if _gpu_is_there() else ""
    op = _Unplaced(op_type)
    tf.get_default_graph()._apply_device_functions(op)
    return op.device


@functools.lru_cache(maxsize=None)
def _gpu_is_there() -> bool:
    """Whether TensorFlow has a GPU, on which it places ops that nobody places."""
    if not tf.test.is_built_with_cuda():
        return False
    return any(device.device_type == "GPU" for device in device_lib.list_local_devices())


def runs_on_cpu(op_type: str) -> bool:
    """Whether an op of a type, built now, runs by a kernel for the CPU: not on another device, and
    not as a part of what XLA compiles."""
    if not tf.executing_eagerly() and _in_xla_context(tf.get_default_graph()):
        return False
    device_type = tf.DeviceSpec.from_string(_device_in_force(op_type)).device_type
    return device_type == "CPU" or (device_type is None and not _gpu_is_there())


@contextlib.contextmanager
def beside(tensor: Any) -> Iterator[None]:
    """Builds ops on the device of a tensor or variable, whatever scopes are in force.

    Without a device, and for what is no tensor, in these. Scopes in force are those of whoever
    builds: for gradients, of the call of `tf.gradients`.
    """
    if not getattr(tensor, "device", None):
        yield
        return
    with tf.device(None), tf.device(tensor.device):
        yield


def converted_beside(value: Any, preferred_dtype: Any = None) -> Tensor:
    """`value` as a tensor on its own device, if it is a tensor or variable in a graph."""
    with beside(value):
        tensor = tf.convert_to_tensor(value, preferred_dtype=preferred_dtype)
        # A variable of resources is read by an op that no scope gives a device.
        if getattr(value, "device", None) and not tensor.device:
            tensor = tf.identity(tensor)
        return tensor


def in_function() -> bool:
    """Whether an op built now belongs to a function.

    A function may be called anywhere after it is traced, also inside what XLA compiles.
    """
    if tf.executing_eagerly():
        return False
    graph = tf.get_default_graph()
    while isinstance(graph, _BRANCHES_AND_LOOPS):
        graph = graph.outer_graph
    return isinstance(graph, _FUNCTION_GRAPHS)
