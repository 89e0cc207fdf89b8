"""Imports what the user names as a side."""

import importlib
import importlib.util
import inspect
import os
import sys
from typing import Any, Callable


def load_function(target: str) -> Callable[..., Any]:
    """Imports `module:function` or `file.py:function`, as a program beside it would.

    Args:
      target: a dotted module or the path of a file, and a function in it, perhaps dotted too.

    Returns:
      The function.

    Raises:
      ValueError: there is no such function. Else whatever the import raises.
    """
    place, _, attribute = target.rpartition(":")
    if place.endswith(".py"):
        folder, file = os.path.split(os.path.abspath(place))
        sys.path.insert(0, folder)
        stem = file[: -len(".py")]
        spec = importlib.util.spec_from_file_location(stem, os.path.join(folder, file))
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        sys.modules[stem] = module
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    else:
        sys.path.insert(0, os.getcwd())
        module = importlib.import_module(place)
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            there = [n for n, v in vars(module).items() if inspect.isfunction(v)]
            raise ValueError(
                f"{target}: there is no {attribute!r}. There are: {', '.join(there) or 'none'}."
            ) from None
    if not callable(found):
        raise ValueError(f"{target}: it must be a function, got {type(found).__name__}.")
    return found
