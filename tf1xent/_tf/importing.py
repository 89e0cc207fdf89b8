"""Imports of graphs that another program, or another TensorFlow, has written."""

import re
from typing import Any, Collection

import tensorflow.compat.v1 as tf

from tf1xent._tf.error_messages import error_line
from tf1xent._typing import GraphDef, MetaGraphDef
from tf1xent.errors import GraphFileError

_GRADIENT_OP = re.compile(r"Grad(V\d+)?$")


def import_meta_graph(
    meta_graph: MetaGraphDef, collections: Collection[str], where: str, *, saver: bool
) -> Any:
    """Imports a graph into the default one, without devices, and returns its Saver, or None.

    Args:
      meta_graph: is not changed.
      collections: which to import; others may hold objects of the program that wrote them.
      where: begins the message of an error.
      saver: whether to make a Saver.

    Raises:
      GraphFileError: TensorFlow cannot import it.
    """
    proto = tf.MetaGraphDef()
    proto.CopyFrom(meta_graph)
    if not saver:
        proto.ClearField("saver_def")
    for key in list(proto.collection_def):
        if key not in collections:
            del proto.collection_def[key]
    drop_noted_shapes(proto.graph_def)
    try:
        return tf.train.import_meta_graph(proto, clear_devices=True)
    except (ValueError, TypeError, KeyError, tf.errors.OpError) as error:
        line = error_line(error)
        raise GraphFileError(f"{where}: TensorFlow cannot import it: {line}") from error


def drop_noted_shapes(graph_def: GraphDef) -> None:
    """Drops what TF 1.x has noted about shapes and later ones refuse, as of FusedBatchNormGradV3.

    Notes of other ops stay: of loops and pipelines, shapes are not inferred again.
    """
    for node in graph_def.node:
        if _GRADIENT_OP.search(node.op):
            node.attr.pop("_output_shapes", None)
