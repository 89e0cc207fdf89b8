"""Watches a training in a bare session."""

from typing import Any, List

from tf1xent._tf import tf
from tf1xent._typing import Graph, Session, Tensor
from tf1xent.diagnostics.diagnosis import Diagnosis
from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.watching.alarms import checked_options
from tf1xent.diagnostics.watching.watcher import Watcher


class LossDoctor:
    """Watches a training in a `tf.Session`, and names the cause when it goes wrong.

    Make it when the graph is complete, and train as before: it takes part in those runs of the
    session that train. One small tensor is fetched with each, which tells whether the loss, the
    gradients and small variables are finite. Now and then all variables are read; the data since
    are kept. Once a step has gone wrong, the steps since are run again in a copy of the graph, up
    to the first that is not all right, and that one is judged as by `diagnose`, with the variables
    from before it. The numbers of the training are bit by bit those without it.

    What it cannot see: what an input pipeline gave to a run that raised; the random numbers of a
    step, so where dropout decides, the steps that are run again differ. In asynchronous training
    other workers change the variables too, so those before a step are approximate.

    Args:
      session: a `tf.Session`, perhaps that of ``MonitoredSession``'s hooks.
      loss: what is minimised.
      train_op: what makes a step. Default: the one of the collection ``tf.GraphKeys.TRAIN_OP``,
        where optimizers put theirs.
      on_problem: "warn" logs the diagnosis; "stop" also makes `should_stop` True; "raise" also
        raises `LossProblemError` from the run that went wrong. An error that the run itself raises
        is logged with its diagnosis, and raised as it is.
      summary_every: with every so many steps the summary is fetched. Default: with each at first,
        and later so that it takes 1 % of the time, but at least with every 100th; what shows later
        than it began is found by running the steps since again.
      snapshot_every: after how many steps all variables are read. Default: so that it takes a
        quarter of 1 % of the time.
      patience: for how many steps a model has to stand still before it is judged.
      memory_limit: in bytes, for the variables and data that are kept. Where the data of one
        interval need more, the variables before a step cannot be had, and the diagnosis has those
        after it.
      dump_dir: a folder for what it takes to run the step again: one folder in it a diagnosis.
      output_dir: a folder whose event files get the diagnosis as a text for TensorBoard.
      summary_writer: a `tf.summary.FileWriter` that gets it.

    Attributes:
      diagnoses: a list of `Diagnosis`, one for each alarm.

    Raises:
      ValueError: an option is out of range, or no train op is there.
      RuntimeError: the graph is finalized.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.diagnostics import LossDoctor
    >>> with tf.Graph().as_default():
    ...     x = tf.placeholder(tf.float32, [None])
    ...     weight = tf.get_variable("weight", initializer=2.0)
    ...     loss = tf.reduce_mean(tf.square(weight * x - 1.0))
    ...     train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    ...     with tf.Session() as session:
    ...         session.run(tf.global_variables_initializer())
    ...         with LossDoctor(session, loss, train) as doctor:
    ...             for value in (1.0, 0.5, float("nan")):
    ...                 _ = session.run(train, {x: [value, 1.0]})
    >>> [found.cause for found in doctor.diagnoses]
    ['inputs not finite']
    """

    def __init__(
        self, session: Session, loss: Tensor, train_op: Any = None, **options: Any
    ) -> None:
        self._watcher = make_watcher("LossDoctor", session.graph, loss, train_op, options)
        self._watcher.attach(session)
        self._session = session

    def run(self, *arguments: Any, **options: Any) -> Any:
        """As of `tf.Session`."""
        return self._session.run(*arguments, **options)

    @property
    def diagnoses(self) -> List[Diagnosis]:
        return self._watcher.alarms.diagnoses

    def should_stop(self) -> bool:
        """Tells whether training should end, by `on_problem`."""
        return self._watcher.alarms.stop_wanted

    def close(self) -> None:
        """Looks at the last runs, and lets the session alone."""
        try:
            self._watcher.finish()
        finally:
            self._watcher.detach()

    def __enter__(self) -> "LossDoctor":
        return self

    def __exit__(self, error_type: Any, *error: Any) -> None:
        if error_type is None:
            self.close()
        else:
            self._watcher.detach()


def make_watcher(function: str, graph: Graph, loss: Any, train_op: Any, options: Any) -> Watcher:
    """Returns the `Watcher` of a training.

    Args:
      function: begins the messages of errors.
      graph: the `tf.Graph`.
      loss: a tensor, or its name.
      train_op: an op, a tensor, a list of them, or None; ``()`` for a program that does not train.
      options: of `LossDoctor`, by name.
    """
    checked = checked_options(function, options)
    if graph.finalized:
        raise RuntimeError(
            f"{function}: the graph must not be finalized yet, got one that is. Make it before."
        )
    if train_op is None:
        train_op = _only_train_op(function, graph)
    return Watcher(Program(graph, loss, train_op), checked)


def _only_train_op(function: str, graph: Graph) -> Any:
    found = graph.get_collection(tf.GraphKeys.TRAIN_OP)
    if len(found) == 1:
        return found[0]
    count = "several" if found else "none"
    raise ValueError(
        f"{function}: `train_op` must be given where the graph's collection of train ops has not "
        f"exactly one, got {count}. Give the op that makes a step."
    )
