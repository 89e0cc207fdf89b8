"""Watches a training of a Keras model in graph mode; the one module that imports Keras."""

from typing import Any, Dict, List, Optional

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.diagnostics.diagnosis import Diagnosis
from tf1xent.diagnostics.watching.alarms import checked_options
from tf1xent.diagnostics.watching.loss_doctor import make_watcher
from tf1xent.diagnostics.watching.watcher import Watcher


class LossDoctorCallback(tf.keras.callbacks.Callback):  # type: ignore[misc]
    """Watches a Keras model's ``fit``, and names the cause when its loss goes wrong.

    Use it among the ``callbacks`` of `fit` with tf.keras on TensorFlow 1.x, or with Keras 2 on 2.x
    after `tf.disable_v2_behavior()`; a model that runs eagerly, or in functions of its own, has no
    graph to look into. It does what `LossDoctor` does, and takes its options: "stop" ends `fit`
    after the batch, as TerminateOnNaN does.

    Args:
      **options: of `LossDoctor`.

    Attributes:
      diagnoses: a list of `Diagnosis`, one for each alarm.

    Raises:
      ValueError: an option is out of range.
      RuntimeError: when training begins: the model does not train in graph mode.
      LossProblemError: from `fit`, where ``on_problem="raise"`` asks for it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        checked_options("LossDoctorCallback", options)
        self._options = options
        self._function: Any = None
        self._watcher: Optional[Watcher] = None

    @property
    def diagnoses(self) -> List[Diagnosis]:
        return [] if self._watcher is None else self._watcher.alarms.diagnoses

    def on_train_begin(self, logs: Optional[Dict[str, Any]] = None) -> None:
        """Builds the summary, and takes part in the runs of the training function."""
        function = _tf.training_function(self.model)
        train_op = getattr(function, "updates_op", None)
        if train_op is None:
            raise RuntimeError(
                "LossDoctorCallback: the model must train in graph mode, got one that does not. "
                "Call tf.compat.v1.disable_v2_behavior() before it is built."
            )
        session = tf.keras.backend.get_session()
        if function is not self._function:
            found = self.diagnoses
            self._watcher = make_watcher(
                "LossDoctorCallback", session.graph, self.model.total_loss, train_op, self._options
            )
            self._watcher.alarms.diagnoses.extend(found)
        assert self._watcher is not None
        self._function = function
        self._watcher.alarms.stop_wanted = False
        self._watcher.attach(session)
        _tf.make_callable_again(function)

    def on_batch_end(self, batch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        """Ends the training if that is wanted."""
        if self._watcher is not None and self._watcher.alarms.stop_wanted:
            self.model.stop_training = True

    def on_train_end(self, logs: Optional[Dict[str, Any]] = None) -> None:
        """Looks at the last batches, and lets the session alone."""
        if self._watcher is not None:
            try:
                self._watcher.finish()
            finally:
                self._watcher.detach()
                _tf.make_callable_again(self._function)
