"""Opens a trained model from its files alone, ready to be differentiated twice."""

import contextlib
import itertools
import warnings
from typing import Any, Callable, List, Optional, Sequence

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Graph, Path, Session, Tensor
from tf1xent.curvature.models.checkpoints import check_checkpoint, listed
from tf1xent.curvature.models.model_files import ModelFiles, read_model
from tf1xent.errors import EmptyTableWarning, GraphFileError
from tf1xent.gradients import warn_of_conflicts

__all__ = ["Model", "load_model"]

_KEPT = (
    tf.GraphKeys.GLOBAL_VARIABLES,
    tf.GraphKeys.LOCAL_VARIABLES,
    tf.GraphKeys.TRAINABLE_VARIABLES,
    tf.GraphKeys.LOSSES,
    tf.GraphKeys.TABLE_INITIALIZERS,
    *_tf.CONTROL_FLOW_CONTEXTS,
)
_numbers = itertools.count()


class Model:
    """A graph from a file, in a session of its own with the variables' trained values.

    `tf1xent.override_gradients` is in force until it is closed. Close it, or use it in a ``with``.

    Attributes:
      graph: the `tf.Graph`.
      session: a `tf.Session` of it. The variables get their values when it first runs something:
        gradients of functional loops and branches cannot be built after that.
      variables: the trainable variables of a floating type, in the file's order.
      source: the path of the graph's file.
      checkpoint: the prefix of the variables' values.
    """

    def __init__(self, session: Session, files: ModelFiles, parts: contextlib.ExitStack) -> None:
        self.graph: Graph = session.graph
        self.session = session
        self.source = files.source
        self.checkpoint = files.checkpoint
        self._parts = parts
        found = self.graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
        self.variables: List[Tensor] = [v for v in found if v.dtype.base_dtype.is_floating]

    def close(self) -> None:
        """Closes the session and ends the override of gradients; again, it does nothing."""
        self._parts.close()

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def find_variables(
        self, names: Optional[Sequence[str]] = None, caller: str = "Model.find_variables"
    ) -> List[Tensor]:
        """Returns variables by name; a name scope stands for the trainable variables in it.

        Args:
          names: of variables, scopes, or other tensors to differentiate by. Default: the trainable
            variables.
          caller: names the function or command in errors.

        Raises:
          ValueError: the graph does not have a name, or no trainable variables to be the default.
        """
        if names is None:
            if not self.variables:
                raise ValueError(
                    f"{caller}: {self.source}: the graph lists no trainable variables. Name the "
                    "variables to differentiate by."
                )
            return self.variables
        found: List[Tensor] = []
        for name in names:
            scope = name.rstrip("/") + "/"
            inside = [v for v in self.variables if name in (v.op.name, v.name)]
            inside = inside or [v for v in self.variables if v.op.name.startswith(scope)]
            found += inside or [self.find_tensor(name, caller)]
        return list({x.name: x for x in found}.values())

    def find_tensor(self, name: str, caller: str = "Model.find_tensor") -> Tensor:
        """Returns a variable or another tensor by name; ValueError if there is none."""
        for variable in self.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES):
            if name in (variable.op.name, variable.name):
                return variable
        try:
            return self.graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
        except (KeyError, ValueError) as error:
            there = listed([variable.op.name for variable in self.variables])
            raise ValueError(
                f"{caller}: {self.source}: the graph has no tensor `{name}`. "
                f"Its trainable variables: {there}."
            ) from error

    def step(self) -> int:
        """Returns the step of training that the checkpoint is of; 0 if it does not say."""
        reader = tf.train.NewCheckpointReader(self.checkpoint)
        name = tf.GraphKeys.GLOBAL_STEP
        return int(reader.get_tensor(name)) if reader.has_tensor(name) else 0


def load_model(
    source: Path,
    checkpoint: Optional[Path] = None,
    *,
    tags: Optional[Sequence[str]] = None,
    config: Any = None,
    caller: str = "load_model",
) -> Model:
    """Opens a trained model from its files alone, without the code that built it.

    Use it to look at the curvature of a model that another program, or another TensorFlow, has
    trained and saved. The graph is imported into a graph of its own, and its variables get their
    saved values. While the model is open, `tf1xent.override_gradients` is in force, in the whole
    process, so that second derivatives exist.

    Args:
      source: a .meta file; the prefix or the folder of a checkpoint with a .meta file; or the
        folder of a SavedModel with a graph that TensorFlow 1.x, or `tf.compat.v1`, wrote.
      checkpoint: the prefix or the folder of the checkpoint with the variables' values. Default:
        the one beside the .meta file. A SavedModel has its own.
      tags: of the graph in a SavedModel. Default: "train", else "eval", else "serve", else the
        first.
      config: a `tf.ConfigProto` for the session.
      caller: names the function or command in errors.

    Returns:
      A `Model`: graph, session and trainable variables. Close it, or use it in a ``with``.

    Raises:
      FileNotFoundError: a file is not there.
      ValueError: the checkpoint is one of another graph; nothing is restored then. Or the graph has
        no variables, as a frozen one, or one of TensorFlow 2.x that keeps them in functions.
      tf1xent.errors.GraphFileError: a ValueError too: a file cannot be read or imported.

    Warns:
      tf1xent.errors.EmptyTableWarning: when the session first runs something: lookup tables cannot
        be filled, because their files are not here.

    Example:

    >>> import os, tempfile
    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import load_model
    >>> folder = tempfile.TemporaryDirectory()
    >>> prefix = os.path.join(folder.name, "model")
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     weights = tf.get_variable("weights", initializer=[1.0, 2.0])
    ...     loss = tf.reduce_sum(weights**2, name="loss")
    ...     session.run(weights.initializer)
    ...     _ = tf.train.Saver().save(session, prefix)
    >>> with load_model(prefix + ".meta") as model:
    ...     print([variable.op.name for variable in model.variables])
    ...     print(float(model.session.run("loss:0")))
    ['weights']
    5.0
    >>> folder.cleanup()
    """
    files = read_model(source, checkpoint, tags, caller)
    with contextlib.ExitStack() as parts:
        graph = tf.Graph()
        with graph.as_default():
            restore = _imported(files, f"{caller}: {files.source}")
            session = _RestoredSession(graph, config, restore)
        parts.callback(session.close)
        holder = f"load_model {next(_numbers)}"
        parts.callback(_tf.release_process_override, holder)
        _, conflicts = _tf.hold_process_override(holder)
        warn_of_conflicts(caller, conflicts, stacklevel=3)
        return Model(session, files, parts.pop_all())


class _RestoredSession(tf.Session):
    """A session that restores its variables before it first runs something else."""

    def __init__(self, graph: Graph, config: Any, restore: Callable[[Session], None]) -> None:
        super().__init__(graph=graph, config=config)
        self._restore: Optional[Callable[[Session], None]] = restore

    def run(self, *arguments: Any, **options: Any) -> Any:
        """As of `tf.Session`."""
        if self._restore is not None:
            restore, self._restore = self._restore, None
            try:
                restore(self)
            except BaseException:
                self._restore = restore
                raise
        return super().run(*arguments, **options)


def _imported(files: ModelFiles, where: str) -> Callable[[Session], None]:
    """Imports a graph into the default one; returns what restores its variables.

    The checkpoint is compared with the graph first.
    """
    saver = _tf.import_meta_graph(files.proto, _KEPT, where, saver=True)
    names = (saver or tf.train.Saver()).saver_def
    graph = tf.get_default_graph()
    check_checkpoint(graph, names.restore_op_name, files.checkpoint, where)
    local = [v.initializer for v in graph.get_collection(tf.GraphKeys.LOCAL_VARIABLES)]
    tables = graph.get_collection(tf.GraphKeys.TABLE_INITIALIZERS)

    def restore(session: Session) -> None:
        try:
            session.run(names.restore_op_name, {names.filename_tensor_name: files.checkpoint})
            session.run(local)
        except tf.errors.OpError as error:
            line = _tf.error_line(error)
            raise GraphFileError(f"{where}: {files.checkpoint}: {line}") from error
        try:
            session.run(tables, files.assets)
        except tf.errors.OpError as error:
            line = _tf.error_line(error)
            message = f"{where}: lookup tables stay empty: {line}"
            warnings.warn(message, EmptyTableWarning, stacklevel=3)

    return restore
