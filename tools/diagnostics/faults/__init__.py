"""The table of faults, made before any of them was shown to a tool."""

from typing import Dict, List, Tuple

from diagnostics.faults import batches, numbers, parameters, ranges, training
from diagnostics.faults.fault import Fault

__all__ = ["FAULTS", "Fault", "of_cause"]

FAULTS: Tuple[Fault, ...] = (
    *batches.FAULTS,
    *parameters.FAULTS,
    *numbers.FAULTS,
    *ranges.FAULTS,
    *training.FAULTS,
)


def of_cause(cause: str) -> Dict[str, List[Fault]]:
    """Returns the faults of a cause by model."""
    found: Dict[str, List[Fault]] = {}
    for fault in FAULTS:
        for model in fault.models if fault.cause == cause else ():
            found.setdefault(model, []).append(fault)
    return found
