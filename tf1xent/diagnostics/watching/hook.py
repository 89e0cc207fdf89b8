"""Watches a training of a MonitoredSession or an Estimator."""

from typing import Any, List, Optional

from tf1xent._tf import tf
from tf1xent._typing import Graph, Session
from tf1xent.diagnostics.diagnosis import Diagnosis
from tf1xent.diagnostics.watching.alarms import Alarms, checked_options
from tf1xent.diagnostics.watching.loss_doctor import make_watcher
from tf1xent.diagnostics.watching.watcher import Watcher


class LossDoctorHook(tf.train.SessionRunHook):
    """Watches a training, and names the cause when the loss becomes NaN, inf, or stands still.

    Use it in a `tf.train.MonitoredTrainingSession`, or among the ``hooks`` of an Estimator's train
    or evaluate. It does what `LossDoctor` does, and takes its options. Of the session it sees all
    runs, also the feeds of other hooks and errors, which TensorFlow tells no hook of; runs that do
    not train stay as they are. Its ops are built in ``begin``, when the program's graph is
    complete. In an Estimator give it to ``train``, where it stands before TensorFlow's own
    NanTensorHook; among a model's ``training_hooks`` it stands behind, which changes nothing but
    that "stop" comes too late. For an evaluation make it in the model function, with the loss.

    Each worker of a cluster has its own, for its own steps.

    Args:
      loss: the tensor that is minimised, its name, or a function that returns it, called once when
        the graph is complete. Default: the last one of ``tf.GraphKeys.LOSSES``, where an Estimator
        puts its own.
      train_op: what makes a step, or a function that returns it. Default: the one of
        ``tf.GraphKeys.TRAIN_OP``; a program that has none, such as an evaluation, is watched too.
      **options: of `LossDoctor`.

    Attributes:
      diagnoses: a list of `Diagnosis`, one for each alarm.

    Raises:
      ValueError: an option is out of range; or, when the graph is complete, no loss is there, or
        several train ops.
      LossProblemError: from a run, where ``on_problem="raise"`` asks for it.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.diagnostics import LossDoctorHook
    >>> with tf.Graph().as_default():
    ...     x = tf.placeholder(tf.float32, [None])
    ...     weight = tf.get_variable("weight", initializer=2.0)
    ...     loss = tf.reduce_mean(tf.square(weight * x - 1.0))
    ...     step = tf.train.get_or_create_global_step()
    ...     train = tf.train.GradientDescentOptimizer(0.1).minimize(loss, step)
    ...     hook = LossDoctorHook(loss, train, on_problem="stop")
    ...     with tf.train.MonitoredTrainingSession(hooks=[hook]) as session:
    ...         values = iter([1.0, 0.5, float("nan"), 1.0])
    ...         while not session.should_stop():
    ...             _ = session.run(train, {x: [next(values), 1.0]})
    >>> [(found.step, found.cause) for found in hook.diagnoses]
    [(2, 'inputs not finite')]
    """

    def __init__(self, loss: Any = None, train_op: Any = None, **options: Any) -> None:
        checked_options("LossDoctorHook", options)
        self._loss, self._train_op, self._options = loss, train_op, options
        self._watcher: Optional[Watcher] = None

    @property
    def diagnoses(self) -> List[Diagnosis]:
        return [] if self._watcher is None else self._watcher.alarms.diagnoses

    def begin(self) -> None:
        """Builds the summary, before the graph is finalized."""
        graph = tf.get_default_graph()
        loss, train_op = _called(self._loss), _called(self._train_op)
        if loss is None:
            loss = _last_loss(graph)
        if train_op is None and not graph.get_collection(tf.GraphKeys.TRAIN_OP):
            train_op = ()
        found = self.diagnoses
        self._watcher = make_watcher("LossDoctorHook", graph, loss, train_op, self._options)
        # An Estimator uses a hook again for the next part of its training.
        self._watcher.alarms.diagnoses.extend(found)

    def after_create_session(self, session: Session, coord: Any) -> None:
        """Takes part in the session's runs from now on; after a failure there is a new session."""
        self._alarms.stop_wanted = False
        assert self._watcher is not None
        self._watcher.attach(session)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Ends the training if that is wanted."""
        if self._alarms.stop_wanted:
            run_context.request_stop()

    def end(self, session: Session) -> None:
        """Looks at the last runs, and lets the session alone."""
        assert self._watcher is not None
        try:
            self._watcher.finish()
        finally:
            self._watcher.detach()

    @property
    def _alarms(self) -> Alarms:
        assert self._watcher is not None
        return self._watcher.alarms


def _called(value: Any) -> Any:
    return value() if callable(value) and not hasattr(value, "dtype") else value


def _last_loss(graph: Graph) -> Any:
    losses = graph.get_collection(tf.GraphKeys.LOSSES)
    if not losses:
        raise ValueError(
            "LossDoctorHook: `loss` must be given where the graph's collection of losses is empty. "
            "Give the tensor that is minimised."
        )
    return losses[-1]
