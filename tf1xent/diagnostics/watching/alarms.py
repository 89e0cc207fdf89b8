"""What is done about a diagnosis: it is logged, written down, and training may end."""

from typing import Any, List, NamedTuple, Optional

from tf1xent._tf import tf
from tf1xent._typing import Path
from tf1xent.diagnostics.diagnosis import Diagnosis
from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.replaying.step import History, Step
from tf1xent.diagnostics.reports.dumping import write_dump
from tf1xent.diagnostics.reports.events import text_summary, write_text

_ON_PROBLEM = ("warn", "stop", "raise")
# A few steps without a change say nothing.
_LEAST = {"summary_every": 1, "snapshot_every": 1, "patience": 50, "memory_limit": 1}


class Options(NamedTuple):
    """The options of `LossDoctor`, which has their meaning."""

    on_problem: str = "warn"
    summary_every: Optional[int] = None
    snapshot_every: Optional[int] = None
    patience: int = 50
    memory_limit: int = 1 << 29
    dump_dir: Optional[Path] = None
    output_dir: Optional[Path] = None
    summary_writer: Any = None


class LossProblemError(tf.train.NanLossDuringTrainingError):  # type: ignore[misc]
    """A training has gone wrong, and a loss doctor was told to end it with an error.

    Attributes:
      diagnosis: the `Diagnosis`.
    """

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(diagnosis)
        self.diagnosis = diagnosis

    def __str__(self) -> str:
        return str(self.diagnosis)


class Alarms:
    """All alarms of a training.

    Args:
      options: `Options`.

    Attributes:
      diagnoses: a list of `Diagnosis`, one for each alarm.
      stop_wanted: whether training should end.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self.diagnoses: List[Diagnosis] = []
        self.stop_wanted = False

    def note(self, diagnosis: Diagnosis) -> None:
        """Tells of what may be meant: training goes on, whatever was asked for."""
        self.diagnoses.append(diagnosis)
        tf.logging.warning("%s", diagnosis)

    def give(self, diagnosis: Diagnosis, program: Program, step: Step, history: History) -> None:
        """Gives an alarm.

        Raises:
          LossProblemError: it was asked for, and the run itself has not raised.
        """
        options = self._options
        self.diagnoses.append(diagnosis)
        tf.logging.warning("%s", diagnosis)
        if options.dump_dir is not None:
            folder = write_dump(diagnosis, program, step, options.dump_dir, history)
            if folder is not None:
                tf.logging.warning("LossDoctor: what the step needs is in %s", folder)
        if options.summary_writer is not None:
            options.summary_writer.add_summary(text_summary(diagnosis), diagnosis.step or 0)
            options.summary_writer.flush()
        if options.output_dir is not None:
            write_text(diagnosis, options.output_dir)
        self.stop_wanted = options.on_problem != "warn"
        if options.on_problem == "raise" and step.error is None:
            raise LossProblemError(diagnosis)


def checked_options(function: str, options: Any) -> Options:
    """Returns `Options`, or raises what a wrong one deserves."""
    unknown = sorted(set(options) - set(Options._fields))
    if unknown:
        names = ", ".join(Options._fields)
        raise TypeError(
            f"{function}: `{unknown[0]}` must be one of {names}, got an option of that name. "
            "Leave it out."
        )
    found = Options(**options)
    if found.on_problem not in _ON_PROBLEM:
        raise ValueError(
            f"{function}: `on_problem` must be one of {', '.join(_ON_PROBLEM)}, got "
            f"{found.on_problem!r}. Give one of these."
        )
    for name, least in _LEAST.items():
        value = getattr(found, name)
        if value is not None and value < least:
            raise ValueError(
                f"{function}: `{name}` must be at least {least}, got {value}. Raise it."
            )
    return found
