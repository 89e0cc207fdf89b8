"""What every tensor of a step was, in numbers: taken down while the step runs again."""

from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

import numpy as np


class TensorRecord(NamedTuple):
    """One tensor of a floating type, each time that it was computed.

    Attributes:
      name: the tensor's name in the program's graph; in a function, "FUNCTION/NODE:OUTPUT".
      op_type: the type of its op.
      dtype: the name of its dtype, such as "float32".
      shape: its shape.
      round: how often it had been computed before in this run; above 0 only in loops.
      nans: the number of NaN entries.
      infinities: the number of inf and -inf entries.
      zeros: the number of entries that are 0.
      smallest: the least finite entry; NaN where there is none. Of complex numbers, the magnitude.
      largest: the greatest finite entry; NaN where there is none.
      first_bad: the index of the first entry that is not finite, or None.
    """

    name: str
    op_type: str
    dtype: str
    shape: Tuple[int, ...]
    round: int
    nans: int
    infinities: int
    zeros: int
    smallest: float
    largest: float
    first_bad: Optional[Tuple[int, ...]]

    @property
    def is_bad(self) -> bool:
        """Tells whether an entry is NaN or infinite."""
        return bool(self.nans or self.infinities)


class Recording:
    """All records of a run, in an order in which inputs stand before what is computed from them.

    Attributes:
      records: a list of `TensorRecord`.
      loss: the loss, or None if the run ended before.
      error: the message with which the run ended, or None.
      kept: by name, the values that `Replay.run` was asked to keep, one for each round.
      variables: by name, the variables' values after the run, if it made the update.
    """

    def __init__(self) -> None:
        self.records: List[TensorRecord] = []
        self.loss: Optional[Any] = None
        self.error: Optional[str] = None
        self.kept: Dict[str, List[np.ndarray]] = {}
        self.variables: Dict[str, np.ndarray] = {}
        self._by_name: Dict[str, List[TensorRecord]] = {}

    def add(self, name: str, op_type: str, value: Any, keep: bool = False) -> None:
        """Takes down one tensor."""
        rounds = self._by_name.setdefault(name, [])
        record = _record(name, op_type, np.asarray(value), len(rounds))
        rounds.append(record)
        self.records.append(record)
        if keep:
            self.kept.setdefault(name, []).append(np.array(value))

    def of(self, name: str) -> List[TensorRecord]:
        """Returns the records of a tensor, a round each; none if it was not computed."""
        return self._by_name.get(name, [])

    def is_zero(self, name: str) -> bool:
        """Tells whether a tensor was computed, and all its entries were 0, in each round."""
        rounds = self.of(name)
        return bool(rounds) and all(r.zeros == int(np.prod(r.shape)) for r in rounds)

    def bad(self) -> Set[str]:
        """Returns the names of the tensors that were not finite in some round."""
        return {record.name for record in self.records if record.is_bad}


def _record(name: str, op_type: str, value: np.ndarray, number: int) -> TensorRecord:
    # NumPy knows bfloat16 only as a foreign type.
    wide = value.astype(np.float32) if value.dtype.kind == "V" else value
    wide = np.abs(wide) if wide.dtype.kind == "c" else wide
    nans = infinities = 0
    bad: Optional[Tuple[int, ...]] = None
    inside = wide
    # Both are NaN where an entry is: no other pass is needed where all is well.
    smallest, largest = _range(wide)
    if wide.size and not (np.isfinite(smallest) and np.isfinite(largest)):
        finite = np.isfinite(wide)
        inside = wide[finite]
        nans = int(np.count_nonzero(np.isnan(wide)))
        infinities = wide.size - inside.size - nans
        bad = tuple(int(i) for i in np.unravel_index(int(finite.argmin()), wide.shape))
        smallest, largest = _range(inside)
    zeros = inside.size - int(np.count_nonzero(inside))
    dtype = value.dtype.name
    return TensorRecord(
        name,
        op_type,
        dtype,
        value.shape,
        number,
        nans,
        infinities,
        zeros,
        smallest,
        largest,
        bad,
    )


def _range(values: np.ndarray) -> Tuple[float, float]:
    if not values.size:
        return float("nan"), float("nan")
    return float(values.min()), float(values.max())
