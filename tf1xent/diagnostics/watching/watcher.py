"""Watches the training runs of a session, and judges those that go wrong."""

import math
import threading
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Session, Tensor
from tf1xent.diagnostics.diagnosing import diagnose_step
from tf1xent.diagnostics.diagnosis import Diagnosis
from tf1xent.diagnostics.judging.problems import only_left_out, stands_still
from tf1xent.diagnostics.program.program import Program, ancestors
from tf1xent.diagnostics.replaying.step import History, Step
from tf1xent.diagnostics.watching.alarms import Alarms, Options
from tf1xent.diagnostics.watching.history import Numbers
from tf1xent.diagnostics.watching.rewinding import rewind
from tf1xent.diagnostics.watching.snapshots import Schedule, Snapshot, Snapshots, is_finite
from tf1xent.diagnostics.watching.summary import Pace, Summary

# A diagnosis takes about a second: after one, so many runs go by before the next, and each time
# more, by this factor.
_QUIET = 100
_QUIETER = 4
_ALWAYS = 10**12
# The symptom of variables that the optimizer is not given: that may be meant, as in fine-tuning.
_LEFT_OUT = "left out"
# The share of the time of training that looking for a model that stands still may take.
_SHARE = 0.0025
# But the pause between two looks is at most so many times the patience.
_LONGEST_PAUSE = 12
# They say nothing of the model: the data have come to an end, or the cluster is at fault.
_NO_PROBLEM = (
    tf.errors.OutOfRangeError,
    tf.errors.CancelledError,
    tf.errors.AbortedError,
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.ResourceExhaustedError,
)


class _Plan(NamedTuple):
    """What is fetched with a run that trains.

    Attributes:
      data: the global step, where other workers count it too; then the tensors of input pipelines.
      summed_up: the summary, and these.
      names: the names of the tensors that have the values of the pipelines' in the run.
      loss_at: where the loss is among the run's own fetches, or None.
      trains: whether the run updates variables; else it only computes the loss.
    """

    data: List[Tensor]
    summed_up: List[Tensor]
    names: List[str]
    loss_at: Optional[int]
    trains: bool


class Watcher(_tf.Watcher):
    """What `LossDoctor`, `LossDoctorHook` and `LossDoctorCallback` share.

    It adds the ops of a `Summary` to the program's graph.

    Args:
      program: a `Program`.
      options: `Options`.

    Attributes:
      alarms: `Alarms`.
    """

    def __init__(self, program: Program, options: Options) -> None:
        self.program, self._options = program, options
        self.alarms = Alarms(options)
        self._summary = Summary(program)
        self._pace = Pace(self._summary.seconds, options.summary_every)
        self._numbers = Numbers(program, self._summary)
        self._snapshots = Snapshots(options.memory_limit)
        self._schedule = Schedule(options.snapshot_every)
        made = [*(update.op for update in program.updates), *(program.train_ops or ())]
        self._trains = bool(made)
        self._marks = {op.name for op in made or [program.loss.op]}
        step = tf.train.get_global_step(program.graph)
        self._global_step: Optional[str] = None if step is None else step.op.name
        # A run's number plus this is the global step. In a cluster it is fetched with each run, and
        # kept for the runs since the last snapshot: other workers make steps between.
        self._offset = 0
        self._counter: Optional[Tensor] = None
        self._counted: Dict[int, int] = {}
        self._ones = np.ones(len(self._summary.entries), self._summary.tensor.dtype.as_numpy_dtype)
        self._runs = 0
        # Of runs that update nothing, as long as none does: the loss, 0 where it is not fetched.
        self._idle_losses: List[float] = []
        # The time that the runs took.
        self._seconds = 0.0
        # A symptom that is judged after the next run, when there are data.
        self._postponed: Optional[str] = None
        self._quiet_until = 0
        # By symptom, until which run it is not judged again, and for how many after that.
        self._quiet: Dict[str, Tuple[int, int]] = {}
        self._next_still = options.patience
        self._judging = threading.Lock()
        self._session: Optional[Session] = None
        self._readers: Dict[Tuple[str, ...], Callable[[], List[np.ndarray]]] = {}
        self._end: Callable[[], None] = lambda: None

    def attach(self, session: Session) -> None:
        """Takes part in the runs of a session from now on, and of no other."""
        self.detach()
        self._session, self._readers = session, {}
        self._counter = None
        if session.sess_str and self._global_step is not None:  # in a cluster others count too
            self._counter = self.program.variables.get(self._global_step)
        self._snapshots.clear()
        self._numbers.forget_values()
        self._schedule.now(self._runs)
        self._end = _tf.watch_runs(session, self)

    def detach(self) -> None:
        """Lets the session alone."""
        self._end()
        self._end = lambda: None

    def finish(self) -> None:
        """Looks once more: nobody has seen what the last runs made, if they were not summed up."""
        if not self._runs and len(self._idle_losses) >= self._options.patience:
            self._judge("idle")
        if not self._trains or not self._runs or self._quiet_until:  # an alarm has been given
            return
        names = [name for name in self.program.trainable if name in self.program.variables]
        try:
            values = self._read(names)
        except (RuntimeError, tf.errors.OpError):  # the session is closed
            return
        if not is_finite(values, names):
            self._judge("parameters")
        elif self._runs >= self._options.patience:
            self._numbers.look(self._runs + self._offset, values)
            symptom = self._standing()
            if symptom is not None:
                self._judge(symptom)

    def plan(
        self, asked: Sequence[Any], fed: Sequence[Any], connected: Mapping[str, Tensor]
    ) -> Optional["_Plan"]:
        """Returns what is fetched with a run that trains; None for other runs."""
        needed = {op.name for op in ancestors(asked)}
        trains = bool(self._marks & needed)
        if not trains and self.program.loss.op.name not in needed:
            return None
        names = {tensor.name for tensor in fed}
        sources = {
            source.name: connected.get(source.name, source)
            for source in self.program.sources
            if source.name not in names and self.program.graph.is_fetchable(source.op)
        }
        data = [*([] if self._counter is None else [self._counter]), *sources.values()]
        losses = [i for i, element in enumerate(asked) if element is self.program.loss]
        at = losses[0] if losses and self.program.loss.shape.rank == 0 else None
        return _Plan(data, [self._summary.tensor, *data], list(sources), at, trains)

    def around(
        self, plan: "_Plan", keys: Sequence[Tensor], arrays: Sequence[np.ndarray], run: Any
    ) -> List[np.ndarray]:
        """Makes a run, and looks whether it is all right."""
        if not plan.trains:
            return self._without_update(plan, keys, arrays, run)
        if self._runs == self._schedule.due and self._trains:
            self._look()
        self._snapshots.keep(keys, arrays)
        summed_up = self._pace.is_time(self._seconds)
        start = time.perf_counter()
        try:
            results, more = run(plan.summed_up if summed_up else plan.data)
        except _NO_PROBLEM:
            raise
        except tf.errors.OpError as error:
            self._judge("error", error=_tf.error_line(error))
            raise
        self._seconds += time.perf_counter() - start
        if plan.data:
            self._take(plan, more)
        values = more[0] if summed_up else None
        loss = None if plan.loss_at is None else results[plan.loss_at]
        self._numbers.add((self._runs + self._offset, loss, values))
        self._runs += 1
        if self._postponed is not None:
            symptom, self._postponed = self._postponed, None
            self._judge(symptom, None if values is None else self._summary.loss(values))
        elif self._runs >= self._next_still:
            self._look_for_standing()
        # inf and NaN stay in a sum.
        if values is not None and not math.isfinite(values.dot(self._ones)):
            self._check(values)
        elif loss is not None and not math.isfinite(loss):
            self._judge("not finite", float(loss), problem=f"the loss is {loss}")
        return results  # type: ignore[no-any-return]

    def _without_update(
        self, plan: "_Plan", keys: Sequence[Tensor], arrays: Sequence[np.ndarray], run: Any
    ) -> List[np.ndarray]:
        """Makes a run that computes the loss only.

        Many of these may be an evaluation; if no other follows to the end, nothing was trained.
        """
        if self._runs or len(self._idle_losses) >= self._options.patience:
            return run([])[0]  # type: ignore[no-any-return]
        self._snapshots.keep(keys, arrays)
        results, more = run(plan.data)
        if plan.data:
            self._take(plan, more)
        known = plan.loss_at is not None
        self._idle_losses.append(float(results[plan.loss_at]) if known else 0.0)
        return results  # type: ignore[no-any-return]

    def _take(self, plan: "_Plan", more: List[np.ndarray]) -> None:
        """Takes what was fetched as the data of a run."""
        first = len(more) - len(plan.names)
        self._snapshots.add(plan.names, more[first:])
        if self._counter is not None:
            self._counted[self._runs] = int(more[first - 1])
            self._offset = self._counted[self._runs] - self._runs

    def _look(self) -> None:
        """Reads the variables before a run."""
        start = time.perf_counter()
        second = self._schedule.is_second
        if second:
            names = [name for name in self.program.trainable if name in self.program.variables]
        else:
            names = list(self.program.variables)
        values = self._read(names)
        healthy = is_finite(values, self.program.trainable)
        if not second:
            if self._global_step in values:
                self._offset = int(values[self._global_step]) - self._runs  # type: ignore[index]
            if healthy or self._snapshots.last is None:
                self._snapshots.put(Snapshot(self._runs, values))
                self._counted.clear()
        if healthy:
            self._numbers.look(self._runs + self._offset, values)
        self._schedule.done(self._runs, self._seconds, time.perf_counter() - start)
        if not healthy:
            if self._snapshots.data():
                self._judge("parameters")
            else:
                self._postponed = "parameters"

    def _check(self, values: np.ndarray) -> None:
        if self._summary.not_finite(values):
            problem = self._summary.problem(values)
            symptom = "perhaps not finite" if problem is None else "not finite"
            self._judge(symptom, self._summary.loss(values), problem=problem)

    def _look_for_standing(self) -> None:
        """Looks whether the model learns; if not, it is judged after the next run."""
        start, patience = time.perf_counter(), self._options.patience
        self._postponed = self._standing()
        if self._postponed is not None:
            self._schedule.now(self._runs)
        seconds, a_run = time.perf_counter() - start, self._seconds / self._runs
        pause = max(patience // 5, int(seconds / (_SHARE * a_run)))
        self._next_still = self._runs + min(pause, _LONGEST_PAUSE * patience)

    def _standing(self) -> Optional[str]:
        """Returns the symptom of a model that does not learn, or None."""
        patience = self._options.patience
        history = self._numbers.history(patience)
        if stands_still(self.program, history, patience) is None:
            return None
        return _LEFT_OUT if only_left_out(self.program, history, patience) else "still"

    def _judge(
        self,
        symptom: str,
        loss: Optional[float] = None,
        error: Optional[str] = None,
        problem: Optional[str] = None,
    ) -> None:
        """Finds the cause of what has gone wrong in the last run, and gives the alarm."""
        until, pause = self._quiet.get(symptom, (0, _ALWAYS if symptom == _LEFT_OUT else _QUIET))
        if self._runs < max(until, self._quiet_until) or not self._judging.acquire(blocking=False):
            return
        try:
            self._quiet[symptom] = self._runs + pause, pause * _QUIETER
            found = self._diagnosed(symptom, loss, error, problem)
            # What comes after is judged by itself.
            self._snapshots.clear()
            self._schedule.now(self._runs)
            if found is not None and found[0].problem is not None:
                if symptom == _LEFT_OUT:
                    self.alarms.note(found[0])
                    return
                self._quiet_until = self._runs + pause
                self.alarms.give(found[0], self.program, *found[1:])
        finally:
            self._judging.release()

    def _diagnosed(
        self, symptom: str, loss: Optional[float], error: Optional[str], problem: Optional[str]
    ) -> Optional[Tuple[Diagnosis, Step, History]]:
        """Returns the diagnosis of the step that went wrong, and what it is of."""
        try:
            step = self._step(loss, error)
            if step.loss != loss:  # it is an earlier step
                problem = None
            history = self._numbers.history()
            if symptom == "idle":
                losses = np.array(self._idle_losses)
                counts = dict.fromkeys(self.program.trainable, len(losses))
                history = history._replace(unchanged=counts, losses=losses)
            found = diagnose_step(self.program, step, history, problem)
            if not found.findings:
                # Run again from the snapshot, the steps are all right: something else than a step
                # has changed the variables.
                values = self._read(list(self.program.variables))
                if not is_finite(values, list(values)):
                    # Between two runs, they are those before the next one.
                    number = (step.number or 0) + (symptom == "parameters")
                    step = step._replace(number=number, variables=values)
                    found = diagnose_step(self.program, step, history, problem)
            return found, step, history
        except Exception as failure:  # the training must not end by it
            number = self._runs + self._offset
            tf.logging.warning(
                "LossDoctor: what goes wrong near step %s cannot be judged: %s: %s",
                number,
                type(failure).__name__,
                failure,
            )
            return None

    def _step(self, loss: Optional[float], error: Optional[str]) -> Step:
        """Returns the first step that went wrong, as far as it can be had."""
        data = self._snapshots.data()
        snapshot = self._snapshots.last
        if snapshot is None or not data or not self._trains:
            # A run that raises is not counted.
            last = max(self._runs - (error is None), 0) + self._offset
            values = self._read(list(self.program.variables))
            return Step(last, data[-1] if data else {}, values, loss, error)
        first = snapshot.run

        def number_of(position: int) -> int:
            return self._counted.get(first + position, first + position + self._offset)

        found = rewind(
            self.program,
            snapshot.values,
            data,
            lambda at, before, after: self._numbers.compare(number_of(at), before, after),
        )
        if found.position < len(data) - 1:
            loss, error = None, None
        return Step(number_of(found.position), data[found.position], found.variables, loss, error)

    def _read(self, names: Sequence[str]) -> Dict[str, np.ndarray]:
        assert self._session is not None
        key = tuple(names)
        if key not in self._readers:
            tensors = [self.program.variables[name] for name in names]
            # It looks only once at what shall be fetched.
            self._readers[key] = self._session.make_callable(tensors)
        return dict(zip(names, self._readers[key]()))
