"""Curvature while a model is trained: a SessionRunHook that measures every so many steps."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Graph, Operation, Path, Session, Tensor
from tf1xent.curvature.estimates.eigenvalues import Eigenvalues, top_eigenvalues
from tf1xent.curvature.estimates.trace import TraceEstimate, trace
from tf1xent.curvature.models.feed_files import missing_inputs, needed_ops
from tf1xent.curvature.operators.ggn_operator import GGNOperator
from tf1xent.curvature.operators.hessian_operator import HessianOperator
from tf1xent.curvature.products.differentiation import as_list
from tf1xent.curvature.reports.events import curvature_summary
from tf1xent.gradients import warn_of_conflicts

__all__ = ["CurvatureHook"]

# Stateful ops that training does not notice when they run once more.
_READS = {
    "Variable",
    "VariableV2",
    "VarHandleOp",
    "ReadVariableOp",
    "VarIsInitializedOp",
    "TemporaryVariable",
    "HashTable",
    "HashTableV2",
    "LookupTableFind",
    "LookupTableFindV2",
    "Assert",
    "Print",
    "PrintV2",
}


class Curvature(NamedTuple):
    """What a `CurvatureHook` has measured at one step.

    Attributes:
      step: the global step.
      eigenvalues: `Eigenvalues`, the largest by magnitude first.
      trace: a `TraceEstimate`, or None where none was asked for.
    """

    step: int
    eigenvalues: Eigenvalues
    trace: Optional[TraceEstimate]


class CurvatureHook(tf.train.SessionRunHook):
    """Logs the curvature of a loss every so many steps, and leaves training as it is.

    Use it in a `tf.train.MonitoredTrainingSession`, or as a ``training_hook`` of an Estimator, to
    see how the sharpness of a minimum changes. It measures the loss on data of its own, which it
    feeds: the same at each step, so that the numbers can be compared. Its ops are built when the
    session is made; by then, in ``begin``, the program's own graph is complete. The variables'
    values after training are bit by bit those without the hook, so it refuses a loss with side
    effects, such as dropout, which draws random numbers, or an input pipeline that is not fed.

    In asynchronous training other workers change the variables while it measures; make it a
    ``chief_only_hook`` there, and take the numbers as approximate.

    Args:
      loss: a scalar tensor; or a function that returns it, called once when the graph is complete.
      xs: variables, or a function that returns them. Default: the trainable variables.
      feeds: a list of feed dicts, one for each batch, or a function that returns one. Feed also
        the tensors that come from an input pipeline. Default: one run without feeds.
      outputs: a tensor of the model, as of `GGNOperator`, or a function that returns it; then the
        matrix is the generalized Gauss-Newton matrix instead of the Hessian.
      every_steps: how often to measure. The first time is after the first step.
      top: how many eigenvalues of largest magnitude.
      trace_products: for the estimate of the trace, each about as long as a product; 0 for none.
      seed: of all random vectors; the same at each step.
      output_dir: a folder whose event file, the one that is open in this process, gets the scalars
        ``curvature/...`` at each step; the folder of the checkpoints is a good one.
      summary_writer: a `tf.summary.FileWriter` instead.
      name: begins the tags of the scalars.
      **options: of the operator: batch_weights, reduction, damping, block_size, batch_norm.

    Attributes:
      results: a list of `Curvature`, one for each time.

    Raises:
      ValueError: an argument is out of range; or, when the graph is complete, a tensor that the
        loss needs is not fed, or the loss has side effects.
      RuntimeError: the graph has no global step.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import CurvatureHook
    >>> with tf.Graph().as_default():
    ...     x = tf.get_variable("x", initializer=[3.0, 1.0])
    ...     loss = x[0] ** 4 + x[1] ** 2
    ...     step = tf.train.get_or_create_global_step()
    ...     train = tf.train.GradientDescentOptimizer(0.01).minimize(loss, step)
    ...     hook = CurvatureHook(loss, every_steps=2)
    ...     with tf.train.MonitoredTrainingSession(hooks=[hook]) as session:
    ...         for _ in range(3):
    ...             _ = session.run(train)
    >>> [(found.step, round(float(found.eigenvalues.values[0]), 1)) for found in hook.results]
    [(1, 44.2), (3, 25.6)]
    """

    def __init__(
        self,
        loss: Any,
        xs: Any = None,
        feeds: Any = None,
        *,
        outputs: Any = None,
        every_steps: int = 100,
        top: int = 1,
        trace_products: int = 0,
        seed: int = 0,
        output_dir: Optional[Path] = None,
        summary_writer: Any = None,
        name: str = "curvature",
        **options: Any,
    ) -> None:
        for argument, value, least in (("top", top, 1), ("trace_products", trace_products, 0)):
            if value < least:
                raise ValueError(
                    f"CurvatureHook: `{argument}` must be at least {least}, got {value}. Raise it."
                )
        self._loss, self._xs, self._feeds, self._outputs = loss, xs, feeds, outputs
        self._top, self._trace_products, self._seed = top, trace_products, seed
        self._output_dir, self._writer, self._tag = output_dir, summary_writer, name
        self._options = options
        self._timer = tf.train.SecondOrStepTimer(every_steps=every_steps)
        self.results: List[Curvature] = []

    def begin(self) -> None:
        """Builds the products, before the graph is finalized."""
        graph = tf.get_default_graph()
        self._step = tf.train.get_global_step(graph)
        if self._step is None:
            raise RuntimeError(
                "CurvatureHook: the graph must have a global step, got none. "
                "Call tf.train.get_or_create_global_step()."
            )
        loss = _called(self._loss)
        xs = tf.trainable_variables() if self._xs is None else as_list(_called(self._xs))
        outputs = None if self._outputs is None else as_list(_called(self._outputs))
        weights = _tf.tensor_of(self._options.get("batch_weights"))
        fetched = [loss, *(outputs or ()), *([] if weights is None else [weights])]
        _check_effects(fetched, self._feeds, graph)
        self._session = _CurrentSession(graph)
        holder = f"CurvatureHook {id(self)}"
        _, conflicts = _tf.hold_process_override(holder)
        try:
            warn_of_conflicts("CurvatureHook", conflicts, stacklevel=3)
            if outputs is None:
                self._operator: Any = HessianOperator(
                    self._session, loss, xs, self._feeds, **self._options
                )
            else:
                self._operator = GGNOperator(
                    self._session, loss, outputs, xs, self._feeds, **self._options
                )
        finally:
            _tf.release_process_override(holder)
        if self._writer is None and self._output_dir is not None:
            self._writer = tf.summary.FileWriterCache.get(self._output_dir)

    def before_run(self, run_context: Any) -> Any:
        """Asks for the global step."""
        return tf.train.SessionRunArgs(self._step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Measures if it is time."""
        # Training has not counted the step yet when the value is read, or it has.
        if not self._timer.should_trigger_for_step(int(run_values.results) + 1):
            return
        step = int(run_context.session.run(self._step))
        if self._timer.should_trigger_for_step(step):
            self._timer.update_last_triggered_step(step)
            self._session.now = run_context.session
            self._measure(step)

    def end(self, session: Session) -> None:
        """Brings what was logged to the disk."""
        if self._writer is not None:
            self._writer.flush()

    def _measure(self, step: int) -> None:
        eigenvalues = top_eigenvalues(self._operator, self._top, seed=self._seed)
        found = None
        if self._trace_products:
            found = trace(self._operator, self._trace_products, seed=self._seed)
        self.results.append(Curvature(step, eigenvalues, found))
        values = ", ".join(f"{value:.6g}" for value in eigenvalues.values)
        tail = "" if found is None else f", trace {found.value:.6g} +- {found.standard_error:.2g}"
        tf.logging.info("curvature at step %d: eigenvalues %s%s", step, values, tail)
        if self._writer is not None:
            self._writer.add_summary(curvature_summary(eigenvalues, found, name=self._tag), step)


class _CurrentSession:
    """The session of the training: a new one takes its place after a failure."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.now: Optional[Session] = None

    def run(self, *arguments: Any, **options: Any) -> Any:
        """As of `tf.Session`."""
        assert self.now is not None
        return self.now.run(*arguments, **options)


def _called(value: Any) -> Any:
    return value() if callable(value) and not hasattr(value, "dtype") else value


def _check_effects(tensors: List[Tensor], feeds: Any, graph: Graph) -> None:
    """ValueError for a loss that needs more than is fed, or that changes something when it runs."""
    fed = _fed(feeds, graph)
    placeholders, outputs = missing_inputs(tensors, fed)
    if placeholders or outputs:
        names = ", ".join(tensor.name for tensor in [*placeholders, *outputs])
        raise ValueError(
            f"CurvatureHook: `feeds` must feed all that the loss reads, got nothing for {names}. "
            "Add arrays for these tensors to each feed dict."
        )
    effects = sorted(op.name for op in needed_ops(tensors, fed) if _has_effect(op))
    if effects:
        more = f" and {len(effects) - 3} more" if len(effects) > 3 else ""
        raise ValueError(
            f"CurvatureHook: `loss` must have no side effects, got {', '.join(effects[:3])}{more}: "
            "training would go on differently. Give a loss without dropout and updates, such as "
            "that of an evaluation on the same variables."
        )


def _fed(feeds: Any, graph: Graph) -> List[Tensor]:
    """Returns the tensors that the first batch feeds."""
    if hasattr(feeds, "initializer"):
        raise TypeError(
            "CurvatureHook: `feeds` must be feed dicts, got an iterator. Read its batches before "
            "training, and feed them."
        )
    found: Callable[[], Any] = feeds if callable(feeds) else lambda: feeds
    first: Dict[Any, Any] = next(iter(found() or [{}]), {})
    keys = [graph.as_graph_element(key) for key in first]
    return [key for key in keys if isinstance(key, tf.Tensor)]


def _has_effect(op: Operation) -> bool:
    if _tf.runs_functions(op):
        bodies = _tf.bodies(op)
        return any(_has_effect(inner) for body in bodies for inner in body.graph.get_operations())
    types = _tf.op_types_called(op) if _tf.is_defun_call(op) else {op.type}
    return any(map(_type_has_effect, types - _READS))


def _type_has_effect(op_type: str) -> bool:
    # Writes to reference variables do not count as stateful; those the operator refuses.
    definition = _tf.op_definition(op_type)
    return definition is not None and bool(definition.is_stateful)
