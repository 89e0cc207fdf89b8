"""Python functions that ops call while a graph runs."""

from typing import Any, Callable

from tensorflow.python.ops import script_ops


def function_token(function: Callable[..., Any]) -> str:
    """Returns what names a function to the op PyFunc, for as long as the function is kept alive."""
    return str(script_ops._py_funcs.insert(function))
