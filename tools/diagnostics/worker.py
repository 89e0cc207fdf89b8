"""What a process of its own does: one run. Importing this does not import TensorFlow."""

import traceback
from typing import Any, Optional, Tuple


def make(task: Tuple[Any, ...]) -> Tuple[Optional[str], str]:
    """Makes a run, given (cause, model, seed, whether side by side).

    Returns:
      Its line, or None where the model can have no fault of this cause; and what went wrong in this
      program, or empty.
    """
    from diagnostics import runs

    try:
        made = runs.make(*task)
    except Exception:  # the other runs go on; TensorFlow's own errors cannot be sent
        return None, f"{task}:\n{traceback.format_exc()}"
    return (None if made is None else made.line()), ""
