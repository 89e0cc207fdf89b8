"""Private modules of TensorFlow that not every version has."""

import importlib


def module_if_there(name):
    """Returns the module ``tensorflow.python.NAME``, or None where this TensorFlow has none."""
    try:
        return importlib.import_module("tensorflow.python." + name)
    except ImportError:
        return None
