"""What a process of its own does: one run. Importing this does not import TensorFlow."""

import traceback
from typing import Any, Optional, Tuple


def make(task: Tuple[Any, ...]) -> Optional[str]:
    """Makes a run, given (cause, model, seed, whether side by side); returns its line."""
    from diagnostics import runs

    try:
        made = runs.make(*task)
    except Exception:  # TensorFlow's own cannot be sent to another process
        raise RuntimeError(f"run {task}:\n{traceback.format_exc()}") from None
    return None if made is None else made.line()
