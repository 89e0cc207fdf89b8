"""A program's graph and variables as files of TensorFlow's own: a .meta file and a checkpoint."""

import itertools
import os
from typing import Mapping

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Graph, MetaGraphDef, Operation, Tensor
from tf1xent.diagnostics.program.program import Program

_KEPT = (
    tf.GraphKeys.GLOBAL_VARIABLES,
    tf.GraphKeys.LOCAL_VARIABLES,
    tf.GraphKeys.TRAINABLE_VARIABLES,
    tf.GraphKeys.GLOBAL_STEP,
    tf.GraphKeys.LOSSES,
    tf.GraphKeys.TABLE_INITIALIZERS,
    *_tf.CONTROL_FLOW_CONTEXTS,
)

# By a type of ops, attributes of the newest TensorFlow that change no result, and that an earlier
# one refuses: the name of a variable, that a product is one of a gradient, and that the shape of a
# new value was checked.
_NOT_NEEDED = {
    "VarHandleOp": ("debug_name",),
    "MatMul": ("grad_a", "grad_b"),
    "BatchMatMulV2": ("grad_x", "grad_y"),
    "BatchMatMulV3": ("grad_x", "grad_y"),
    "AssignVariableOp": ("validate_shape",),
}


def write_checkpoint(variables: Mapping[str, np.ndarray], prefix: str) -> None:
    """Writes values under the names of their variables' ops; needs no graph that has them.

    Parts of partitioned variables stand there each under its own name.

    Raises:
      tf.errors.OpError: a file cannot be written.
    """
    names = sorted(variables)
    with tf.Graph().as_default() as graph:
        tensors = [tf.placeholder(variables[name].dtype) for name in names]
        write = _tf.raw_op("SaveV2")(
            prefix=prefix, tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
        )
    # The training may hold the memory of all other devices.
    with tf.Session(graph=graph, config=tf.ConfigProto(device_count={"GPU": 0})) as session:
        session.run(write, {t: variables[name] for t, name in zip(tensors, names)})
    # By this file TensorFlow finds the newest checkpoint of a folder.
    with open(os.path.join(os.path.dirname(prefix), "checkpoint"), "w", encoding="utf-8") as file:
        file.write(f'model_checkpoint_path: "{os.path.basename(prefix)}"\n')


def meta_graph(program: Program, variables: Mapping[str, np.ndarray]) -> MetaGraphDef:
    """Returns a program's graph with a saver for the checkpoint that `write_checkpoint` writes.

    The program's own graph stays as it is.

    Raises:
      ValueError, TypeError, KeyError, tf.errors.OpError: it cannot be exported, such as a graph
        above 2 GB.
    """
    own = _exported(program.graph, [key for key in _KEPT if program.graph.get_collection(key)])
    copy = tf.Graph()
    with copy.as_default():
        tf.import_graph_def(own.graph_def, name="")
        saver = tf.train.Saver(
            {name: _saveable(copy.get_operation_by_name(name)) for name in variables}
        )
    found = _exported(copy, [])
    found.saver_def.CopyFrom(saver.saver_def)
    for key, collection in own.collection_def.items():
        found.collection_def[key].CopyFrom(collection)
    return found


def _exported(graph: Graph, collections: object) -> MetaGraphDef:
    with graph.as_default():  # elsewhere TensorFlow may execute eagerly, and refuses
        found = tf.train.export_meta_graph(
            graph=graph,
            collection_list=collections,
            strip_default_attrs=True,  # an earlier TensorFlow reads it then, if it has the ops
        )
    bodies = [function.node_def for function in found.graph_def.library.function]
    for node in itertools.chain(found.graph_def.node, *bodies):
        # To leave that to TensorFlow would change the graph, which may be finalized.
        node.device = ""
        for name in _NOT_NEEDED.get(node.op, ()):
            node.attr.pop(name, None)
    _tf.drop_noted_shapes(found.graph_def)
    return found


def _saveable(op: Operation) -> Tensor:
    """Returns what a Saver takes for a variable's op, whatever collections it is in."""
    if op.type == "VarHandleOp":
        return _tf.raw_op("ReadVariableOp")(resource=op.outputs[0], dtype=op.get_attr("dtype"))
    return op.outputs[0]
