"""What a process of its own does: one run. Importing this does not import TensorFlow."""

from typing import Any, Optional, Tuple


def make(task: Tuple[Any, ...]) -> Optional[str]:
    """Makes a run, given (cause, model, seed, whether side by side); returns its line."""
    from diagnostics import runs

    made = runs.make(*task)
    return None if made is None else made.line()
