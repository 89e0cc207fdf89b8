"""Opens what the user names as a side: a function, or a graph in a file."""

import importlib
import importlib.util
import inspect
import os
import sys
from typing import Any, Callable, Optional

from tf1xent.verification.batches import Setting
from tf1xent.verification.processes import names_function
from tf1xent.verification.programs import FunctionProgram, Program


def load_program(target: str, loss: Optional[str], setting: Setting, side: str) -> Program:
    """Opens `module:function`, `file.py:function`, or the path of a graph.

    Args:
      target: what the user names.
      loss: the name of a graph's loss.
      setting: tells what inputs are.
      side: "before" or "after".

    Returns:
      A `Program`.

    Raises:
      ValueError: there is no such thing, or what its inputs are cannot be told. Else whatever the
        import of the user's module raises.
    """
    if names_function(target):
        return FunctionProgram(load_function(target), target, setting, side)
    from tf1xent.verification.graph_program import GraphProgram

    return GraphProgram(target, loss, setting, side)


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
