"""Graph files in, new graph files out."""

import os
from typing import Any, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.errors import GraphFileError
from tf1xent.graphs import files
from tf1xent.graphs.collections import Contexts
from tf1xent.graphs.formula.kernel_ops import KERNEL_OPS
from tf1xent.graphs.raw import MetaGraph, RawSavedModel, parsed, serialized
from tf1xent.graphs.rewriting import writing
from tf1xent.graphs.rewriting.replacement import MODES, rewritten

__all__ = ["rewrite_graph_def", "rewrite_meta_graph", "rewrite_saved_model"]


def rewrite_graph_def(graph_def: Any, mode: str = "logsumexp") -> Any:
    """Returns a copy of a GraphDef whose cross-entropy ops can be differentiated to any order.

    Every name stays what it was: whatever read ``xent:0``, the loss, or ``xent:1``, its gradient
    ``p - l``, reads the same tensor from now on, and so do feeds, fetches and control inputs.

    * "logsumexp" puts stock ops of TensorFlow, 1.13 and later, in the place of each fused op::

          loss = x_k - x_y + log1p(sum_{j != k} exp(x_j - x_k)),   k = argmax x

      whose values meet the accuracy of `tf1xent.nn`. The result needs neither tf1xent nor a fused
      op. The PreventGradient nodes that TF 1.x put behind ``xent:1`` become Identity. What
      tf1xent built itself, under `tf1xent.patch` or with its native library
      (``implementation="kernel"``), becomes stock ops likewise, and tf1xent need not be there; the
      other modes leave it.
    * "tag" leaves the ops and their values, bit by bit, and names tf1xent's gradients in them and
      in those PreventGradient nodes: `import tf1xent` before the graph is differentiated.
    * "fused" takes the tags away again.

    "logsumexp" and "tag" also put the bodies of functions that hold cross-entropy ops, or branches
    and loops with such, in the place of their calls, as nodes ``call/...``, because TensorFlow
    gives the calls in an imported graph no gradient. The functions stay in the library, rewritten.
    Where TensorFlow would take labels ``[1, num_classes]`` for a batch of one, both modes broadcast
    them first, and drop the shapes that the file records behind them; gradients that the graph
    holds already stay what they are.

    Args:
      graph_def: a GraphDef; it is not changed.
      mode: "logsumexp", "tag" or "fused".

    Returns:
      A GraphDef. Rewritten a second time it stays as it is.

    **Derivatives**: of every order, in logits and in dense labels; with "logsumexp" by TensorFlow's
      own gradients of the stock ops. No entry of a gradient or of a Hessian is a difference of
      nearly equal numbers; Hessian-vector products with other vectors can be. The derivative of
      the second output is that of its value ``p - l``, and with "tag" that of ``S p - l``; these
      are the same for labels whose sum S is 1. v1 while loops stay differentiable only once.

    Raises:
      TypeError: `graph_def` is not a GraphDef.
      ValueError: `mode` is none of the three.
      tf1xent.errors.GraphFileError: nodes of one name, a missing input, a cycle, a graph that needs
        a newer TensorFlow.
      tf1xent.errors.RewriteError: a fused op has a gradient attribute that is not tf1xent's; nodes
        are of a loss by chunks of classes; a function that leads to a cross-entropy op calls itself
        or cannot be put in the place of its call.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default() as graph:
    ...     logits = tf.placeholder(tf.float64, [None, 2], name="logits")
    ...     loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
    ...         labels=[0], logits=logits, name="xent")
    >>> stock = tf1xent.graphs.rewrite_graph_def(graph.as_graph_def())
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     fetched = tf.import_graph_def(stock, return_elements=["logits:0", loss.name])
    ...     hessian = tf.hessians(fetched[1], fetched[0])[0]
    ...     print(session.run(hessian, {fetched[0]: [[0.0, 0.0]]})[0, :, 0])
    [[ 0.25 -0.25]
     [-0.25  0.25]]

    Source: the formulas are derived in `tf1xent.graphs.formula.stock_formula`.
    """
    caller = "rewrite_graph_def"
    _check_mode(caller, mode)
    return _rewritten_proto(graph_def, tf.GraphDef, "graph_def", mode, caller)


def rewrite_meta_graph(meta_graph: Any, mode: str = "logsumexp") -> Any:
    """Returns the MetaGraphDef of a proto or of a ``.meta`` file, rewritten.

    The graph is rewritten as `rewrite_graph_def` says. Signatures, collections, the saver and the
    names of variables stay, so that the checkpoint beside the file fits.

    Args:
      meta_graph: a MetaGraphDef, which is not changed; or the path of a ``.meta`` file, of a
        checkpoint that has one, or of a folder with such checkpoints.
      mode: "logsumexp", "tag" or "fused".

    Returns:
      A MetaGraphDef, for `tf.train.import_meta_graph`.

    **Derivatives**: as of `rewrite_graph_def`.

    Raises:
      TypeError: `meta_graph` is neither a MetaGraphDef nor a path.
      ValueError, tf1xent.errors.GraphFileError, tf1xent.errors.RewriteError: as of
        `rewrite_graph_def`; GraphFileError too for a file that holds no MetaGraphDef.
      OSError: the file cannot be read.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default() as graph:
    ...     logits = tf.placeholder(tf.float32, [None, 2], name="logits")
    ...     loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=logits)
    ...     meta_graph = tf.train.export_meta_graph()
    >>> stock = tf1xent.graphs.rewrite_meta_graph(meta_graph)
    >>> len(tf1xent.graphs.inspect_graph(stock).ops)
    0

    Source: the formulas are derived in `tf1xent.graphs.formula.stock_formula`.
    """
    caller = "rewrite_meta_graph"
    _check_mode(caller, mode)
    if not isinstance(meta_graph, (str, os.PathLike)):
        return _rewritten_proto(meta_graph, tf.MetaGraphDef, "meta_graph", mode, caller)
    path, file = _read(meta_graph, tf.MetaGraphDef, caller)
    return tf.MetaGraphDef.FromString(
        _rewritten(tf.MetaGraphDef, file.content, mode, f"{caller}: {path}")
    )


def rewrite_saved_model(
    input_dir: Any, output_dir: Any, mode: str = "logsumexp", *, overwrite: bool = False
) -> None:
    """Writes a SavedModel whose graphs are those of another one, rewritten.

    Each of its graphs is rewritten as `rewrite_graph_def` says; signatures, variables, assets and
    all else are copied. Only ``fingerprint.pb`` is left out, which would name the old graphs.

    Args:
      input_dir: the folder of a SavedModel.
      output_dir: the folder to write; it appears when it is complete, or not at all.
      mode: "logsumexp", "tag" or "fused".
      overwrite: whether `output_dir` may exist already; it may then be `input_dir` itself, in
        which only the file of the graphs changes.

    Returns:
      None.

    **Derivatives**: as of `rewrite_graph_def`.

    Raises:
      ValueError, tf1xent.errors.GraphFileError, tf1xent.errors.RewriteError: as of
        `rewrite_graph_def`; GraphFileError too where `input_dir` holds no SavedModel, ValueError
        where `output_dir` is inside of it.
      FileExistsError: `output_dir` is there, and `overwrite` is False.
      OSError: something cannot be read or written.
      tf1xent.errors.CleanUpWarning, as a warning: `output_dir` is complete, or as it was, but what
        was put aside for that cannot be removed.

    Example:

    >>> import os, tempfile
    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> folder = tempfile.mkdtemp()
    >>> old, new = os.path.join(folder, "old"), os.path.join(folder, "new")
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     logits = tf.placeholder(tf.float32, [None, 2], name="logits")
    ...     loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=logits)
    ...     builder = tf.saved_model.Builder(old)
    ...     builder.add_meta_graph_and_variables(session, ["train"])
    ...     _ = builder.save()
    >>> tf1xent.graphs.rewrite_saved_model(old, new)
    >>> len(tf1xent.graphs.inspect_graph(new).ops)
    0

    Source: the formulas are derived in `tf1xent.graphs.formula.stock_formula`.
    """
    caller = "rewrite_saved_model"
    _check_mode(caller, mode)
    path, file = _read(input_dir, _tf.SavedModel, caller)
    if os.path.basename(path) not in files.SAVED_MODEL_NAMES:
        raise GraphFileError(
            f"{caller}: `input_dir` must be the folder of a SavedModel, got {path}."
        )
    _write_folder(path, file, output_dir, mode, overwrite, caller)


def rewrite_path(source: Any, target: Any, mode: str, *, overwrite: bool, caller: str) -> None:
    """Rewrites whatever graph file or SavedModel `source` is to `target`, of the same kind."""
    _check_mode(caller, mode)
    target = files.checked_path(target, caller)
    path = files.find(source, caller)
    file = files.read(path, caller)
    if files.is_folder(source, path, target):
        _write_folder(path, file, target, mode, overwrite, caller)
        return
    real_target = files.checked_file(target, path, file.proto_class, overwrite, caller)
    content = _rewritten(file.proto_class, file.content, mode, f"{caller}: {path}")
    if files.is_written_as_text(file, path, target):
        content = files.as_text(file.proto_class, content, target)
    writing.write_file(content, real_target, path)


def _write_folder(path, file, target, mode, overwrite, caller):
    target = files.checked_folder(target, path, overwrite, caller)
    content = _rewritten(file.proto_class, file.content, mode, f"{caller}: {path}")
    if file.is_text:
        content = files.as_text(file.proto_class, content, path)
    source = os.path.dirname(path) or os.curdir
    writing.write_saved_model(source, target, os.path.basename(path), content)


def _rewritten(proto_class: Any, content: bytes, mode: str, where: str) -> bytes:
    """The bytes of a GraphDef, MetaGraphDef or SavedModel, rewritten."""
    if proto_class is tf.GraphDef:
        return rewritten(content, mode, where)[0]
    if proto_class is tf.MetaGraphDef:
        meta_graph = MetaGraph(content, where)
        tags = ", ".join(meta_graph.rest.meta_info_def.tags)
        where = f"{where}, graph `{tags}`" if tags else where
        contexts = Contexts(meta_graph.rest, where)
        names = contexts.names()
        meta_graph.graph_def, added = rewritten(meta_graph.graph_def, mode, where, names)
        if mode == "logsumexp":
            _forget_kernel_ops(meta_graph.rest.meta_info_def.stripped_op_list)
        contexts.add(added)
        return meta_graph.content()
    saved_model = parsed(RawSavedModel, content, where)
    parts = [_rewritten(tf.MetaGraphDef, p, mode, where) for p in saved_model.meta_graphs]
    saved_model.meta_graphs[:] = parts
    return serialized(saved_model)


def _forget_kernel_ops(op_list: Any) -> None:
    """Takes the native library's ops out of the list of the ops that a file was written with."""
    kept = [definition for definition in op_list.op if definition.name not in KERNEL_OPS]
    if len(kept) < len(op_list.op):
        del op_list.op[:]
        op_list.op.extend(kept)


def _rewritten_proto(proto: Any, proto_class: Any, name: str, mode: str, caller: str) -> Any:
    if not isinstance(proto, proto_class):
        raise TypeError(
            f"{caller}: `{name}` must be a {proto_class.__name__}, got a {type(proto).__name__}. "
            "For a live graph pass graph.as_graph_def()."
        )
    where = f"{caller}: `{name}`"
    return proto_class.FromString(_rewritten(proto_class, proto.SerializeToString(), mode, where))


def _read(path: Any, proto_class: Any, caller: str) -> Tuple[str, files.GraphFile]:
    """The path and content of a file that holds a proto of one class."""
    path = files.find(path, caller)
    file = files.read(path, caller)
    if file.proto_class is not proto_class:
        raise GraphFileError(
            f"{caller}: {path} must hold a {proto_class.__name__}, "
            f"got a {file.proto_class.__name__}."
        )
    return path, file


def _check_mode(caller: str, mode: Any) -> None:
    if mode not in MODES:
        raise ValueError(f"{caller}: `mode` must be one of {', '.join(MODES)}, got {mode!r}.")
