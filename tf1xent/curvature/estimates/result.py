"""What the results of all estimates share."""

import dataclasses
import math
from typing import Any, Dict

import numpy as np


class Result:
    """A frozen dataclass that writes itself as JSON types."""

    def to_dict(self) -> Dict[str, Any]:
        """Returns the fields by name: numbers, strings, lists; NaN and infinity as None.

        Parameter-sized arrays (eigenvectors) are left out.
        """
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {
            field.name: as_json(getattr(self, field.name))
            for field in fields
            if field.metadata.get("json", True)
        }


def as_json(value: Any) -> Any:
    """Returns NumPy numbers and arrays, and what holds them, as JSON types.

    >>> as_json((np.float32(0.5), np.array([1, 2]), float("nan")))
    [0.5, [1, 2], None]
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        return {str(key): as_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
