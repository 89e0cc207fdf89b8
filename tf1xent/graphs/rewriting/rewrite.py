"""Rewrites graphs in memory and graph files."""

import os
from typing import Tuple, Union

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import GraphDef, MetaGraphDef, Path, Proto, ProtoClass
from tf1xent.errors import GraphFileError
from tf1xent.graphs import files
from tf1xent.graphs.collections import Contexts, names_in
from tf1xent.graphs.formula.kernel_ops import KERNEL_OPS
from tf1xent.graphs.raw import MetaGraph, RawSavedModel, parsed, serialized
from tf1xent.graphs.rewriting import writing
from tf1xent.graphs.rewriting.modes import MODES, Request, checked, rewritten

__all__ = ["rewrite_graph_def", "rewrite_meta_graph", "rewrite_saved_model"]


def rewrite_graph_def(
    graph_def: GraphDef, mode: str = "logsumexp", *, loops: str = "keep"
) -> GraphDef:
    """Returns a copy of a GraphDef whose cross-entropy ops can be differentiated to any order.

    Use it for a graph in memory; `rewrite_meta_graph` reads ``.meta`` files, `rewrite_saved_model`
    copies a SavedModel. `inspect_graph` says whether a graph needs a rewrite.

    All names stay. Feeds, fetches, control inputs and nodes that read ``xent:0``, the loss, or
    ``xent:1``, its gradient ``p - l``, work as before.

    * "logsumexp" replaces each fused op by stock ops of TensorFlow 1.13 and later::

          loss = x_k - x_y + log1p(sum_{j != k} exp(x_j - x_k)),   k = argmax x

      The values are as accurate as those of `tf1xent.nn`. The result needs neither tf1xent nor a
      fused op. The PreventGradient nodes that TF 1.x put after ``xent:1`` become Identity. Losses
      that tf1xent built, under `tf1xent.patch` or with its native library
      (``implementation="kernel"``), become stock ops too; the other modes keep them.
    * "tag" keeps the ops and their values, bit by bit. It writes the names of tf1xent's gradients
      into them and into those PreventGradient nodes. Run `import tf1xent` before you differentiate
      the graph.
    * "untag" removes these names again. "fused" is an older name of this mode.
    * "keep" leaves the cross-entropy ops as they are; for `loops`.

    "logsumexp" and "tag" also inline every function that holds a cross-entropy op, or a branch or
    loop with one: the call is replaced by the function's nodes, named ``call/...``. The reason is
    that TensorFlow has no gradient for calls in an imported graph. The functions stay in the
    library, rewritten.

    Both modes broadcast labels of shape ``[1, num_classes]`` explicitly where TensorFlow would take
    the batch size to be 1, and remove the static shapes recorded downstream. Gradients that the
    graph holds already do not change.

    With `loops` "functional" the v1 while loops of the graph, which TensorFlow differentiates only
    once, become While ops, its branches If ops, and the TensorArrays that go through loops lists of
    tensors. What is outside keeps its names, and all values stay. A loop that recorded gradients
    have grown into stays beside, for them: new gradients go through its functional copy. Build them
    before anything is run. Nodes inside loops and branches, and the flows of TensorArrays, go.

    Args:
      graph_def: a GraphDef; it is not changed.
      mode: "logsumexp", "tag", "untag" or "keep".
      loops: "keep" leaves v1 loops and branches as they are; "functional" replaces them.

    Returns:
      A GraphDef. A second rewrite changes nothing.

    **Derivatives**: every order, with respect to logits and dense labels. With "logsumexp" they are
      TensorFlow's own gradients of the stock ops. Gradients and single entries of the Hessian are
      accurate: no two nearly equal numbers are subtracted. A Hessian-vector product with a general
      vector adds terms of both signs and can lose digits where they cancel. The derivative of the
      second output is that of its value ``p - l``; with "tag" it is that of ``S p - l``. The two
      agree for labels whose sum S is 1. v1 while loops can be differentiated only once, with
      `loops` "functional" to any order.

    Raises:
      TypeError: `graph_def` is not a GraphDef.
      ValueError: `mode` or `loops` is none of these.
      tf1xent.errors.GraphFileError: two nodes have the same name, an input is missing, the graph
        has a cycle, or it needs a newer TensorFlow.
      tf1xent.errors.RewriteError: a fused op has a gradient attribute that is not tf1xent's; nodes
        belong to a loss computed by chunks of classes; a function that leads to a cross-entropy op
        calls itself or cannot be inlined; a v1 loop has a shape that is not understood, or draws
        random numbers that a recorded gradient needs too.

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

    Source: `tf1xent.graphs.formula.stock_formula` derives the formulas.
    """
    caller = "rewrite_graph_def"
    request = checked(mode, loops, caller)
    return _rewritten_proto(graph_def, tf.GraphDef, "graph_def", request, caller)


def rewrite_meta_graph(
    meta_graph: Union[MetaGraphDef, Path], mode: str = "logsumexp", *, loops: str = "keep"
) -> MetaGraphDef:
    """Returns the MetaGraphDef of a proto or of a ``.meta`` file, rewritten.

    The graph is rewritten as by `rewrite_graph_def`. Signatures, collections, the saver and the
    names of variables stay, so the checkpoint beside the file still fits.

    Args:
      meta_graph: a MetaGraphDef, which is not changed; or the path of a ``.meta`` file, of a
        checkpoint that has one, or of a folder with such checkpoints.
      mode: "logsumexp", "tag", "untag" or "keep".
      loops: "keep" or "functional".

    Returns:
      A MetaGraphDef, for `tf.train.import_meta_graph`.

    **Derivatives**: as of `rewrite_graph_def`.

    Raises:
      TypeError: `meta_graph` is neither a MetaGraphDef nor a path.
      ValueError, tf1xent.errors.GraphFileError, tf1xent.errors.RewriteError: as of
        `rewrite_graph_def`; GraphFileError too if the file holds no MetaGraphDef.
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
    """
    caller = "rewrite_meta_graph"
    request = checked(mode, loops, caller)
    if not isinstance(meta_graph, (str, os.PathLike)):
        return _rewritten_proto(meta_graph, tf.MetaGraphDef, "meta_graph", request, caller)
    path, file = _read(meta_graph, tf.MetaGraphDef, caller)
    return tf.MetaGraphDef.FromString(
        _rewritten(tf.MetaGraphDef, file.content, request, f"{caller}: {path}")
    )


def rewrite_saved_model(
    input_dir: Path,
    output_dir: Path,
    mode: str = "logsumexp",
    *,
    loops: str = "keep",
    overwrite: bool = False,
) -> None:
    """Writes a copy of a SavedModel with rewritten graphs.

    Each graph is rewritten as by `rewrite_graph_def`. Signatures, variables, assets and all other
    files are copied, except ``fingerprint.pb``, which identifies the old graphs.

    Args:
      input_dir: the folder of a SavedModel.
      output_dir: the folder to write. It appears only when it is complete.
      mode: "logsumexp", "tag", "untag" or "keep".
      loops: "keep" or "functional".
      overwrite: whether `output_dir` may exist. It may then be `input_dir` itself, where only the
        file of the graphs changes.

    **Derivatives**: as of `rewrite_graph_def`.

    Raises:
      ValueError, tf1xent.errors.GraphFileError, tf1xent.errors.RewriteError: as of
        `rewrite_graph_def`; GraphFileError too if `input_dir` holds no SavedModel, ValueError if
        `output_dir` is inside it.
      FileExistsError: `output_dir` exists and `overwrite` is False.
      OSError: a file cannot be read or written.
      tf1xent.errors.CleanUpWarning, as a warning: `output_dir` is complete, or as it was before,
        but temporary files beside it cannot be removed.

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
    """
    caller = "rewrite_saved_model"
    request = checked(mode, loops, caller)
    path, file = _read(input_dir, _tf.SavedModel, caller)
    if os.path.basename(path) not in files.SAVED_MODEL_NAMES:
        raise GraphFileError(
            f"{caller}: `input_dir` must be the folder of a SavedModel, got {path}."
        )
    _write_folder(path, file, output_dir, request, overwrite, caller)


def rewrite_path(
    source: Path, target: Path, mode: str, *, loops: str = "keep", overwrite: bool, caller: str
) -> None:
    """Rewrites the graph file or SavedModel `source` to `target`, of the same kind."""
    request = checked(mode, loops, caller)
    target = files.checked_path(target, caller)
    path = files.find(source, caller)
    file = files.read(path, caller)
    if files.is_folder(source, path, target):
        _write_folder(path, file, target, request, overwrite, caller)
        return
    real_target = files.checked_file(target, path, file.proto_class, overwrite, caller)
    content = _rewritten(file.proto_class, file.content, request, f"{caller}: {path}")
    if files.is_written_as_text(file, path, target):
        content = files.as_text(file.proto_class, content, target)
    writing.write_file(content, real_target, path)


def _write_folder(
    path: str, file: files.GraphFile, target: Path, request: Request, overwrite: bool, caller: str
) -> None:
    target = files.checked_folder(target, path, overwrite, caller)
    content = _rewritten(file.proto_class, file.content, request, f"{caller}: {path}")
    if file.is_text:
        content = files.as_text(file.proto_class, content, path)
    source = os.path.dirname(path) or os.curdir
    writing.write_saved_model(source, target, os.path.basename(path), content)


def _rewritten(proto_class: ProtoClass, content: bytes, request: Request, where: str) -> bytes:
    """Rewrites the bytes of a GraphDef, MetaGraphDef or SavedModel."""
    if proto_class is tf.GraphDef:
        return rewritten(content, request, where).content
    if proto_class is tf.MetaGraphDef:
        meta_graph = MetaGraph(content, where)
        tags = ", ".join(meta_graph.rest.meta_info_def.tags)
        where = f"{where}, graph `{tags}`" if tags else where
        contexts = Contexts(meta_graph.rest, where)
        kept = names_in(meta_graph.rest)
        done = rewritten(meta_graph.graph_def, request, where, contexts.names(), kept)
        meta_graph.graph_def = done.content
        if MODES[request.mode].removes_kernel_ops:
            _forget_kernel_ops(meta_graph.rest.meta_info_def.stripped_op_list)
        contexts.add(done.added)
        if done.op_types is not None:
            contexts.keep_what_is_there(done.op_types)
        return meta_graph.content()
    saved_model = parsed(RawSavedModel, content, where)
    parts = [_rewritten(tf.MetaGraphDef, p, request, where) for p in saved_model.meta_graphs]
    saved_model.meta_graphs[:] = parts
    return serialized(saved_model)


def _forget_kernel_ops(op_list: Proto) -> None:
    """Removes the native library's ops from the file's list of the ops that it uses."""
    kept = [definition for definition in op_list.op if definition.name not in KERNEL_OPS]
    if len(kept) < len(op_list.op):
        del op_list.op[:]
        op_list.op.extend(kept)


def _rewritten_proto(
    proto: Proto, proto_class: ProtoClass, name: str, request: Request, caller: str
) -> Proto:
    if not isinstance(proto, proto_class):
        raise TypeError(
            f"{caller}: `{name}` must be a {proto_class.__name__}, got a {type(proto).__name__}. "
            "For a live graph pass graph.as_graph_def()."
        )
    where = f"{caller}: `{name}`"
    return proto_class.FromString(
        _rewritten(proto_class, proto.SerializeToString(), request, where)
    )


def _read(path: Path, proto_class: ProtoClass, caller: str) -> Tuple[str, files.GraphFile]:
    """Returns the path and the content of a file that holds a proto of one class."""
    path = files.find(path, caller)
    file = files.read(path, caller)
    if file.proto_class is not proto_class:
        raise GraphFileError(
            f"{caller}: {path} must hold a {proto_class.__name__}, "
            f"got a {file.proto_class.__name__}."
        )
    return path, file
