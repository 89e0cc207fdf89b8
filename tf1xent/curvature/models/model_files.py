"""Finds and reads the files of a trained model: its graph, and where its variables' values are."""

import os
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

from google.protobuf import message, text_format

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import MetaGraphDef, Path, Proto, ProtoClass
from tf1xent.curvature.models.checkpoints import find_checkpoint, listed
from tf1xent.errors import GraphFileError

_SAVED_MODEL_NAMES = ("saved_model.pb", "saved_model.pbtxt")
# Of several graphs of a SavedModel, the first that there is: only a training graph has a loss.
_TAGS = (("train",), ("eval",), ("serve",))
_READS = "Give a .meta file with its checkpoint, the folder of a checkpoint, or a SavedModel."


class ModelFiles(NamedTuple):
    """What the files of a model hold.

    Attributes:
      source: the path of the graph's file.
      proto: the graph, a MetaGraphDef.
      checkpoint: the prefix of the variables' values.
      assets: by the name of a tensor that holds the name of a file, where that file is now.
    """

    source: str
    proto: MetaGraphDef
    checkpoint: str
    assets: Dict[str, str]


def read_model(
    source: Path, checkpoint: Optional[Path], tags: Optional[Sequence[str]], caller: str
) -> ModelFiles:
    """Finds and reads the files of a model; the arguments are those of `load_model`."""
    path = os.fspath(source)
    folder = _saved_model_folder(path)
    if folder is None:
        if tags is not None:
            raise ValueError(f"{caller}: {path}: only a SavedModel has tags. Leave them out.")
        meta, prefix = _meta_and_prefix(path, checkpoint, caller)
        proto, assets = _parsed(tf.MetaGraphDef, meta, caller), {}
    else:
        if checkpoint is not None:
            raise ValueError(f"{caller}: {path}: a SavedModel has its own variables. Leave it out.")
        name = next(n for n in _SAVED_MODEL_NAMES if os.path.isfile(os.path.join(folder, n)))
        meta, prefix = os.path.join(folder, name), os.path.join(folder, "variables", "variables")
        graphs = _parsed(_tf.SavedModel, meta, caller).meta_graphs
        proto = _chosen_graph(graphs, tags, f"{caller}: {meta}")
        assets = {
            asset.tensor_info.name: os.path.join(folder, "assets", asset.filename)
            for asset in proto.asset_file_def
        }
    _check_importable(proto, f"{caller}: {meta}")
    if find_checkpoint(prefix) is None:
        raise FileNotFoundError(f"{caller}: {prefix} is no checkpoint: there is no {prefix}.index.")
    return ModelFiles(meta, proto, prefix, assets)


def _saved_model_folder(path: str) -> Optional[str]:
    if os.path.basename(path) in _SAVED_MODEL_NAMES and os.path.isfile(path):
        return os.path.dirname(path) or os.curdir
    names = [os.path.join(path, name) for name in _SAVED_MODEL_NAMES]
    return path if any(map(os.path.isfile, names)) else None


def _meta_and_prefix(path: str, checkpoint: Optional[Path], caller: str) -> Tuple[str, str]:
    """Returns the paths of a graph and of its variables' values."""
    if path.endswith((".pb", ".pbtxt")):
        raise ValueError(
            f"{caller}: {path}: a GraphDef does not say what its variables are, and a frozen one "
            f"has none. {_READS}"
        )
    meta = path if path.endswith(".meta") else path + ".meta"
    if os.path.isdir(path):
        own = find_checkpoint(path)
        if own is None:
            raise FileNotFoundError(f"{caller}: {path} has neither a SavedModel nor a checkpoint.")
        meta = own + ".meta"
    if not os.path.isfile(meta):
        raise FileNotFoundError(f"{caller}: {meta} does not exist. {_READS}")
    if checkpoint is None:
        return meta, meta[: -len(".meta")]
    given = os.fspath(checkpoint)
    return meta, find_checkpoint(given) or given


def _parsed(proto_class: ProtoClass, path: str, caller: str) -> Proto:
    """Reads a proto, binary or text."""
    with open(path, "rb") as file:
        content = file.read()
    proto = proto_class()
    try:
        try:
            proto.ParseFromString(content)
        except message.DecodeError:
            text_format.Parse(content.decode("utf-8"), proto)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise GraphFileError(
            f"{caller}: {path} must hold a {proto_class.__name__}, got something else, or a "
            "truncated file."
        ) from error
    return proto


def _chosen_graph(
    graphs: Sequence[MetaGraphDef], tags: Optional[Sequence[str]], where: str
) -> MetaGraphDef:
    """Returns the graph with the tags, or the one to take without."""
    by_tags = {tuple(sorted(graph.meta_info_def.tags)): graph for graph in graphs}
    there = ", ".join("+".join(found) or "no tags" for found in sorted(by_tags))
    wanted = [tuple(sorted(tags))] if tags is not None else [*_TAGS, *by_tags]
    chosen = next((by_tags[found] for found in wanted if found in by_tags), None)
    if chosen is None:
        raise ValueError(f"{where}: no graph has the tags {'+'.join(wanted[0])}, only: {there}.")
    return chosen


def _check_importable(proto: MetaGraphDef, where: str) -> None:
    """Refuses graphs with ops that this TensorFlow does not have, or without variables."""
    nodes = proto.graph_def.node
    if not nodes:
        raise GraphFileError(f"{where} holds no graph.")
    functions = {function.signature.name for function in proto.graph_def.library.function}
    types = {node.op for node in nodes}
    unknown = sorted(t for t in types - functions if _tf.op_definition(t) is None)
    if unknown:
        raise GraphFileError(
            f"{where}: the graph has ops that this TensorFlow does not know: {listed(unknown)}. "
            "Import what defines them first, or take the TensorFlow that wrote the graph."
        )
    if proto.collection_def[tf.GraphKeys.GLOBAL_VARIABLES].bytes_list.value:
        return
    if types & set(_tf.TRACED_CALLS):
        raise ValueError(
            f"{where}: the graph lists no variables: TensorFlow 2.x wrote it, with its model in "
            "functions, which hold no loss and cannot be differentiated here. Build the loss in a "
            "tf.Graph, as TensorFlow 1.x does, and use the operators of tf1xent.curvature there."
        )
    raise ValueError(
        f"{where}: the graph lists no variables, as frozen graphs do. Give the graph from before "
        "it was frozen, with its checkpoint."
    )
