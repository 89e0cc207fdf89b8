"""The numbers of the steps so far, as far as the memory of a few goes."""

import collections
from typing import Deque, Dict, List, Mapping, Optional, Tuple

import numpy as np

from tf1xent.diagnostics.program import Program
from tf1xent.diagnostics.step import History
from tf1xent.diagnostics.watching.summary import Summary

_STEPS_KEPT = 1000


class Numbers:
    """Takes down each step's summary, and how the trainable variables change.

    Args:
      program: a `Program`.
      summary: the `Summary` of the steps.
    """

    def __init__(self, program: Program, summary: Summary) -> None:
        self._summary = summary
        self._trainable = [name for name in program.trainable if name in program.variables]
        # The step, its loss where that was fetched, and its summary where that was.
        self._steps: Deque[Tuple[int, Optional[float], Optional[np.ndarray]]] = collections.deque(
            maxlen=_STEPS_KEPT
        )
        # By step, the update ratios and the norms by variable.
        self._ratios: Dict[int, Tuple[Dict[str, float], Dict[str, float]]] = {}
        self._before: Optional[Tuple[int, Mapping[str, np.ndarray]]] = None
        # By variable, the step since when it has had the very same value.
        self._since: Dict[str, int] = {}
        # Takes down a step; the fewest calls, since every step pays for them.
        self.add = self._steps.append

    def look(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Takes down the values of the trainable variables before a step."""
        if self._before is None:
            self._since = dict.fromkeys(self._trainable, step)
        else:
            last, before = self._before
            moved = [n for n in self._trainable if not _same(before[n], values[n])]
            self._since.update(dict.fromkeys(moved, step))
            if step == last + 1:
                self.compare(last, before, values)
        self._before = step, {name: values[name] for name in self._trainable}

    def _rows(self) -> np.ndarray:
        """Returns the summaries of all steps [steps, numbers].

        Where a step had none, the last one before stands for it, with the step's loss.
        """
        rows = np.zeros([len(self._steps), len(self._summary.entries)])
        seen = next((row for _, _, row in self._steps if row is not None), rows[:1].sum(axis=0))
        for position, (_, loss, row) in enumerate(self._steps):
            seen = seen if row is None else row
            rows[position] = seen
            if loss is not None:
                rows[position, 0] = loss
        return rows

    def compare(
        self, step: int, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
    ) -> None:
        """Takes down how a step has changed the trainable variables."""
        norms = {name: _norm(before[name]) for name in self._trainable}
        ratios = {name: _ratio(before[name], after[name], norms[name]) for name in norms}
        self._ratios[step] = ratios, norms
        if len(self._ratios) > _STEPS_KEPT:
            del self._ratios[min(self._ratios)]

    def forget_values(self) -> None:
        """Forgets the variables' values: another session may begin with others."""
        self._before = None

    def history(self) -> History:
        """Returns the `History`."""
        steps = np.array([step for step, _, _ in self._steps], dtype=np.int64)
        rows = self._rows()
        measured = sorted(self._ratios.items())
        seen = 0 if self._before is None else self._before[0]
        return History(
            steps,
            rows[:, 0],
            self._summary.gradient_norm(rows),
            np.array([step for step, _ in measured], dtype=np.int64),
            {n: np.array([ratios[n] for _, (ratios, _) in measured]) for n in self._trainable},
            {name: seen - since for name, since in self._since.items()},
            {n: np.array([norms[n] for _, (_, norms) in measured]) for n in self._trainable},
            _zeros_at_end(rows, self._summary.gradients()),
        )


def _ratio(before: np.ndarray, after: np.ndarray, size: float) -> float:
    with np.errstate(all="ignore"):
        change = _norm(after.astype(np.float64) - before)
    return change / size if size else (0.0 if change == 0 else float("inf"))


def _norm(value: np.ndarray) -> float:
    """Returns the Euclidean norm.

    Not by NumPy's own, which wakes the threads of a BLAS: these then spin beside the training.
    """
    flat = np.ravel(value.astype(np.float32) if value.dtype.kind == "V" else value)
    with np.errstate(all="ignore"):
        return float(np.sqrt(np.einsum("i,i", flat, flat, dtype=np.float64)))


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Tells whether two arrays have the very same bits."""
    return one is other or (one.shape == other.shape and one.tobytes() == other.tobytes())


def _zeros_at_end(rows: np.ndarray, gradients: List[Tuple[int, str]]) -> Dict[str, int]:
    """Returns for how many steps in a row, up to the last, gradients have been exactly 0."""
    found = {}
    for position, variable in gradients:
        others = np.flatnonzero(rows[:, position])
        found[variable] = len(rows) - 1 - int(others[-1]) if len(others) else len(rows)
    return found
