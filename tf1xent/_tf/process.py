"""State of the process that outlives a second import of tf1xent."""

from typing import Any, Callable

from tensorflow.python.framework import ops


def kept_in_process(name: str, make: Callable[[], Any]) -> Any:
    """Returns what ``make()`` returned at the process's first call with `name`.

    The object is stored in a module of TensorFlow's. So it survives when a module of tf1xent is
    reloaded, or removed from sys.modules and imported again, while the patch is in force.
    """
    kept = vars(ops).setdefault("_tf1xent_kept_in_process", {})
    if name not in kept:
        kept[name] = make()
    return kept[name]
