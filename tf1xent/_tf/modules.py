"""Private modules of TensorFlow that not every version has."""

import importlib
from typing import Any


def module_if_there(name: str) -> Any:
    """Returns the module ``tensorflow.python.NAME``, or None if this TensorFlow has none."""
    try:
        return importlib.import_module("tensorflow.python." + name)
    except ImportError:
        return None
