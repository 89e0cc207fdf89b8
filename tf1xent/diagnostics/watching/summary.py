"""One small tensor that tells whether a step is all right: the loss, gradients and parameters.

It is fetched with the step itself. Each gradient that an optimizer's op reads becomes one number
in one pass, so that an entry that is not finite shows; no gradient is built.
"""

import re
from typing import Any, List, NamedTuple, Optional, Tuple

import numpy as np

from tf1xent._tf import tf
from tf1xent._typing import Tensor
from tf1xent.diagnostics.program.program import Program

# A read and a pass for each variable cost more than they are worth where variables are large:
# those are looked at with each snapshot.
_SMALL_VARIABLE = 1 << 14
_SMALL_VARIABLES = 1 << 16
# With what a second plan of the same graph costs: its code and arrays are not in the caches.
_SECONDS_OF_OP = 30e-6
_SECONDS_OF_ENTRY = 1e-9
# The share of the time of training that summaries may take.
_SHARE = 0.01
# Between two summaries are at most so many runs, and at the beginning, when rates that are too high
# show, at most this share of all runs so far.
_MOST_RUNS = 100
_MOST_OF_ALL = 0.1
_ASSIGNS = re.compile("Assign|Scatter(?!Nd)")
_NARROW = (tf.float16, tf.bfloat16)


class Entry(NamedTuple):
    """What one number of the summary is of.

    Attributes:
      kind: "loss", "gradient", "assigned" (what is assigned to a variable) or "variable".
      variable: the name of the variable, or None.
    """

    kind: str
    variable: Optional[str]

    @property
    def what(self) -> str:
        """What it is, in words."""
        before = {"gradient": "the gradient of ", "assigned": "what is assigned to "}
        return f"{before.get(self.kind, '')}`{self.variable}`"


class Summary:
    """The tensor, and what its numbers mean.

    Ops are added to the program's graph; build it when the graph is complete.

    Attributes:
      tensor: [1 + number of gradients + number of variables], of float32 or float64: the loss, then
        half the sum of the squares of each.
      entries: a list of `Entry`, for each number.
      seconds: about how long it takes.
    """

    def __init__(self, program: Program) -> None:
        watched = [*_updates_watched(program), *_variables_watched(program)]
        self.entries = [Entry("loss", None), *(entry for entry, _ in watched)]
        with program.graph.as_default(), tf.device(None), tf.name_scope("loss_doctor"):
            numbers = [_total(program.loss), *(_squares(tensor) for _, tensor in watched)]
            wide = any(number.dtype == tf.float64 for number in numbers)
            dtype = tf.float64 if wide else tf.float32
            self.tensor: Tensor = tf.stack([_cast(number, dtype) for number in numbers])
        # An estimate, and a high one: the time of an op, and that of reading an array once.
        sizes = [tensor.shape.num_elements() or 0 for _, tensor in watched if tensor.shape.rank]
        self.seconds = _SECONDS_OF_OP * (2 + len(watched)) + _SECONDS_OF_ENTRY * sum(sizes)
        self._gradients = np.array([entry.kind == "gradient" for entry in self.entries])

    def loss(self, values: np.ndarray) -> float:
        """Returns the loss in a summary's value."""
        return float(values[0])

    def gradient_norm(self, values: np.ndarray) -> np.ndarray:
        """Returns the norms over all gradients, of summaries [steps, numbers]."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.sqrt(2 * values[:, self._gradients].astype(np.float64).sum(axis=1))

    def gradients(self) -> List[Tuple[int, str]]:
        """Returns (position, variable) of the numbers that are gradients."""
        return [(i, e.variable) for i, e in enumerate(self.entries) if e.kind == "gradient"]  # type: ignore[misc]

    def not_finite(self, values: np.ndarray) -> bool:
        """Tells whether a summary has an entry that is not finite."""
        return not np.isfinite(values).all()

    def problem(self, values: np.ndarray) -> Optional[str]:
        """Says what is wrong for certain; squares may be inf where the numbers are not: None."""
        loss = self.loss(values)
        if not np.isfinite(loss):
            return f"the loss is {loss}"
        found = [entry for entry, value in zip(self.entries, values) if np.isnan(value)]
        return f"{found[0].what} is not finite, though the loss is {loss:.6g}" if found else None


class Pace:
    """Says with which runs the summary is fetched: with all, unless the steps are very short.

    A step that is not summed up is judged too: what its update makes of the variables shows in the
    next summary, and the steps since are run again.

    Args:
      seconds: about how long a summary takes.
      every: with every so many runs; None so that it takes a small share of the time.
    """

    def __init__(self, seconds: float, every: Optional[int]) -> None:
        self._pause, self._every = seconds / _SHARE, every
        self._last, self._runs, self._all = float("-inf"), 0, 0

    def is_time(self, now: float) -> bool:
        """Tells whether the next run is one; `now` is the time that the runs before took."""
        self._runs += 1
        self._all += 1
        if self._every is None:
            most = min(_MOST_RUNS, 1 + _MOST_OF_ALL * self._all)
            is_time = self._runs >= most or now - self._last >= self._pause
        else:
            is_time = self._runs >= self._every or self._last < 0
        if is_time:
            self._last, self._runs = now, 0
        return is_time


def _updates_watched(program: Program) -> List[Tuple[Entry, Tensor]]:
    """Returns what the updates of trainable variables read: gradients, or what is assigned."""
    found, seen = [], set()
    trainable = set(program.trainable)
    for update in program.updates:
        if update.variable not in trainable:
            continue
        tensor, kind = update.gradient, "gradient"
        if tensor is None and _ASSIGNS.search(update.op.type):
            tensor, kind = update.op.inputs[1], "assigned"
        if tensor is None or tensor.name in seen or not _can_be_watched(program, tensor):
            continue
        seen.add(tensor.name)
        found.append((Entry(kind, update.variable), tensor))
    return found


def _variables_watched(program: Program) -> List[Tuple[Entry, Tensor]]:
    """Returns the trainable variables, as long as they are small."""
    found, room = [], _SMALL_VARIABLES
    for name in program.trainable:
        if name not in program.variables:
            continue
        tensor = program.variables[name]
        size = tensor.shape.num_elements() if tensor.shape.rank is not None else None
        if size is None or size > min(room, _SMALL_VARIABLE):
            continue
        if _can_be_watched(program, tensor):
            room -= size
            found.append((Entry("variable", name), tensor))
    return found


def _can_be_watched(program: Program, tensor: Tensor) -> bool:
    is_floating = tensor.dtype.base_dtype.is_floating
    # What stands in a loop or a branch has no value outside, or belongs to no update that is made.
    return bool(is_floating and program.graph.is_fetchable(tensor.op))


def _squares(tensor: Tensor) -> Tensor:
    # Where the tensor is: only one number travels.
    with tf.device(tensor.device or None):
        wide = tf.cast(tensor, tf.float32) if tensor.dtype.base_dtype in _NARROW else tensor
        return tf.nn.l2_loss(wide)


def _total(loss: Tensor) -> Tensor:
    """Returns a loss as a scalar; what is minimised where it has several entries is their sum."""
    wide: Any = tf.cast(loss, tf.float32) if loss.dtype.base_dtype in _NARROW else loss
    return wide if loss.shape.rank == 0 else tf.reduce_sum(wide)


def _cast(number: Tensor, dtype: Any) -> Tensor:
    return number if number.dtype.base_dtype == dtype else tf.cast(number, dtype)
