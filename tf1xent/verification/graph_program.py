"""A side that is a graph in a file: the loss and what is fed are told by names of tensors."""

import os
from typing import Dict, List, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import DType, MetaGraphDef, Session, Tensor
from tf1xent.curvature.models.candidates import loss_candidates
from tf1xent.curvature.models.checkpoints import find_checkpoint, listed
from tf1xent.curvature.models.feed_files import missing_inputs, needed_ops
from tf1xent.errors import GraphFileError
from tf1xent.graphs import files
from tf1xent.verification.batches import Setting
from tf1xent.verification.kinds import CLASSES, KINDS, named_kind
from tf1xent.verification.programs import Parameter, Program, Shape, check_kinds, checked_loss

_CALLER = "tf1xent verify"
_KEPT = (tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.LOCAL_VARIABLES, *_tf.CONTROL_FLOW_CONTEXTS)


class GraphProgram(Program):
    """A loss in a .meta, .pb, .pbtxt or SavedModel; variables are restored from its checkpoint.

    Attributes:
      name: the path.
      parameters: a tensor each, placeholders that the loss reads among them; any tensor of the
        graph can be fed, so that `logits` may be what a network computes.
    """

    def __init__(self, path: str, loss: Optional[str], setting: Setting, side: str) -> None:
        self.name = path
        self._path = files.find(path, _CALLER)
        self._graphs = _graphs(files.read(self._path, _CALLER), self._path)
        self._loss = loss
        self._restore: Optional[Tuple[str, str]] = None
        said = [i for i in setting.inputs if i.side in (None, side)]
        with tf.Graph().as_default():
            found = self._imported([i.name for i in said])
            given = {
                _name(found[i.name]): Parameter(i.name, i.kind, i.shape, _dtype(found[i.name]))
                for i in said
            }
            fed = [found[i.name] for i in said]
            placeholders, pipelines = missing_inputs([found[""]], fed)
            for tensor in [*placeholders, *pipelines]:
                name = _name(tensor)
                kind = named_kind(name.rpartition("/")[2].partition(":")[0], setting.labels)
                if kind is None:
                    raise ValueError(
                        f"{path}: the loss needs its tensor {name!r}, and what that is cannot be "
                        f"told. Say --input {name}=KIND, with KIND one of {', '.join(KINDS)}; or "
                        "name tensors behind it."
                    )
                given[name] = Parameter(name, kind, None, _dtype(tensor))
            self.parameters = list(given.values())
            self.names = [parameter.name for parameter in self.parameters]
            check_kinds(self.parameters, path)
            self._check_classes(setting.num_classes)

    def _imported(self, names: Sequence[str]) -> Dict[str, Tensor]:
        """Imports the graph into the default one; returns tensors by name, the loss by ""."""
        graph = tf.get_default_graph()
        proto = self._graphs[0]
        for proto in self._graphs:
            there = {node.name for node in proto.graph_def.node}
            if self._loss and self._loss.partition(":")[0] in there:
                break
        where = f"{_CALLER}: {self._path}"
        prefix = self._checkpoint_prefix(proto)
        saver = _tf.import_meta_graph(proto, _KEPT, where, saver=prefix is not None)
        if saver is not None and prefix is not None:
            self._restore = prefix, saver.saver_def.restore_op_name
            self._file_name = saver.saver_def.filename_tensor_name
        tensors = {name: self._tensor(graph, name) for name in names}
        xs = [t for t in tensors.values() if t.dtype.base_dtype.is_floating]
        tensors[""] = self._found_loss(xs)
        return tensors

    def _checkpoint_prefix(self, proto: MetaGraphDef) -> Optional[str]:
        if not proto.saver_def.restore_op_name:
            return None
        folder, file = os.path.split(self._path)
        if file in files.SAVED_MODEL_NAMES:
            return find_checkpoint(os.path.join(folder, "variables", "variables"))
        return find_checkpoint(self._path)

    def _tensor(self, graph: tf.Graph, name: str) -> Tensor:
        try:
            return graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
        except (KeyError, ValueError) as error:
            inputs = [op.name for op in graph.get_operations() if op.type == "Placeholder"]
            raise ValueError(
                f"{self._path}: the graph has no tensor {name!r}. Its placeholders: "
                f"{listed(inputs) or 'none'}."
            ) from error

    def _found_loss(self, xs: List[Tensor]) -> Tensor:
        graph = tf.get_default_graph()
        if self._loss is not None:
            return checked_loss(self._tensor(graph, self._loss))
        placeholders = [op.outputs[0] for op in graph.get_operations() if op.type == "Placeholder"]
        xs = xs or [t for t in placeholders if t.dtype.base_dtype.is_floating]
        found = ", ".join(str(candidate) for candidate in loss_candidates(graph, xs))
        raise ValueError(
            f"{self._path}: the loss of a graph must be named. Say --loss NAME; likely ones: "
            f"{found or 'none'}."
        )

    def _check_classes(self, num_classes: int) -> None:
        graph = tf.get_default_graph()
        for parameter in self.parameters:
            shape = self._tensor(graph, parameter.name).shape
            own = KINDS[parameter.kind].shape or ()
            if own[-1:] != (CLASSES,) or parameter.shape or not shape.ndims:
                continue
            size = shape.as_list()[-1]
            if size not in (None, num_classes):
                raise ValueError(
                    f"{self._path}: its {parameter.name!r} has {size} classes. Say --num-classes "
                    f"{size}."
                )

    def build(
        self, dtype: str, dtypes: Dict[str, DType], shapes: Dict[str, Shape]
    ) -> Tuple[Tensor, Dict[str, Tensor]]:
        """Imports the graph; TypeError if its inputs are of another floating dtype."""
        names = [parameter.name for parameter in self.parameters]
        tensors = self._imported(names)
        for parameter in self.parameters:
            own = tensors[parameter.name].dtype.base_dtype.name
            if KINDS[parameter.kind].differentiated and own != dtype:
                raise TypeError(f"its {parameter.name!r} is {own}")
        loss = tensors.pop("")
        self._has_state = any("Variable" in op.type for op in needed_ops([loss], tensors.values()))
        return loss, tensors

    def initialize(self, session: Session) -> None:
        """Restores variables that the loss reads from the checkpoint; else initializes them."""
        if not self._has_state:
            return
        if self._restore is None:
            super().initialize(session)
            return
        prefix, restore = self._restore
        try:
            session.run(restore, {self._file_name: prefix})
        except tf.errors.OpError as error:
            raise GraphFileError(f"{prefix}: {_tf.error_line(error)}") from error


def _graphs(file: files.GraphFile, path: str) -> List[MetaGraphDef]:
    """The graphs of a file, each as a MetaGraphDef."""
    proto = file.proto_class()
    proto.ParseFromString(file.content)
    if file.proto_class is tf.MetaGraphDef:
        return [proto]
    if file.proto_class is tf.GraphDef:
        meta_graph = tf.MetaGraphDef()
        meta_graph.graph_def.CopyFrom(proto)
        return [meta_graph]
    return list(proto.meta_graphs)


def _name(tensor: Tensor) -> str:
    """The name of a tensor, without :0."""
    return tensor.name[:-2] if tensor.name.endswith(":0") else tensor.name


def _dtype(tensor: Tensor) -> str:
    return tensor.dtype.base_dtype.name
