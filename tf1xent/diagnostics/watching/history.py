"""The numbers of the steps so far, as far as the memory of a few goes."""

import collections
from typing import Deque, Dict, List, Mapping, Optional, Tuple

import numpy as np

from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.replaying.step import History
from tf1xent.diagnostics.watching.summary import Summary

_STEPS_KEPT = 1000
# A step, its loss where that was fetched, and its summary where that was.
Taken = Tuple[int, Optional[float], Optional[np.ndarray]]


class Numbers:
    """Takes down each step's summary, and how the trainable variables change.

    Args:
      program: a `Program`.
      summary: the `Summary` of the steps.
    """

    def __init__(self, program: Program, summary: Summary) -> None:
        self._summary = summary
        self._trainable = [name for name in program.trainable if name in program.variables]
        self._steps: Deque[Taken] = collections.deque(maxlen=_STEPS_KEPT)
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

    def history(self, last: Optional[int] = None) -> History:
        """Returns the `History`; `last` for only so many steps, and the first."""
        # Of a run of which nothing is known there is nothing to tell.
        taken = [one for one in self._steps if one[1] is not None or one[2] is not None]
        begin = taken[-1][0] - last if last is not None and taken else float("-inf")
        taken = [*taken[:1], *(one for one in taken[1:] if one[0] > begin)]
        rows = [row for _, _, row in taken if row is not None]
        summaries = np.array(rows).reshape(len(rows), len(self._summary.entries))
        # A step that was not summed up has the norm of the one before.
        norms = self._summary.gradient_norm(summaries)
        position = np.cumsum([row is not None for _, _, row in taken], dtype=int) - 1
        gradient_norms = norms[np.maximum(position, 0)] if len(norms) else np.zeros(len(taken))
        measured = sorted(item for item in self._ratios.items() if item[0] > begin)
        seen = 0 if self._before is None else self._before[0]
        return History(
            np.array([step for step, _, _ in taken], dtype=np.int64),
            np.array([_loss(one) for one in taken]),
            np.array(gradient_norms),
            np.array([step for step, _ in measured], dtype=np.int64),
            {n: np.array([ratios[n] for _, (ratios, _) in measured]) for n in self._trainable},
            {name: seen - since for name, since in self._since.items()},
            {n: np.array([sizes[n] for _, (_, sizes) in measured]) for n in self._trainable},
            _zeros_at_end(summaries, self._summary.gradients()),
        )


def _loss(taken: Taken) -> float:
    _, loss, summary = taken
    return float(loss if loss is not None else summary[0])  # type: ignore[index]


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
    """Returns in how many summaries in a row, up to the last, gradients have been exactly 0."""
    found = {}
    for position, variable in gradients:
        others = np.flatnonzero(rows[:, position])
        found[variable] = len(rows) - 1 - int(others[-1]) if len(others) else len(rows)
    return found
