"""TensorFlow's ops by their types, as `tf.raw_ops` has them on later versions."""

import functools
import importlib
import pkgutil
import re
import sys
from typing import Any, Callable, Dict

import tensorflow.compat.v1 as tf

from tf1xent._tf.op_definitions import op_definition
from tf1xent._typing import Operation


@functools.lru_cache(maxsize=None)
def raw_op(op_type: str) -> Callable[..., Any]:
    """Returns the function that makes an op of a type; its arguments go by the op's own names.

    Raises:
      LookupError: this TensorFlow has no op of that type.
    """
    raw_ops = getattr(tf, "raw_ops", None)
    if raw_ops is not None and hasattr(raw_ops, op_type):
        return getattr(raw_ops, op_type)
    # 1.13: the generated modules, imported or not, name their functions in snake case, with a line
    # before those that are not public.
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", op_type).lower()
    package = importlib.import_module("tensorflow.python.ops")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("gen_"):
            generated = importlib.import_module(package.__name__ + "." + module.name)
            found = getattr(generated, words, None) or getattr(generated, "_" + words, None)
            if found is not None:
                return found
    # Ops of contrib come with a module of contrib's, which is there if the op is.
    for name, loaded in list(sys.modules.items()):
        if ".contrib." in name and name.rpartition(".")[2].startswith("gen_"):
            found = getattr(loaded, words, None)
            if found is not None:
                return found
    raise LookupError(f"This TensorFlow has no op of the type {op_type}.")


def attributes(op: Operation, *names: str) -> Dict[str, Any]:
    """The attributes of an op by their names, without those that this TensorFlow does not know."""
    definition = op_definition(op.type)
    known = {attribute.name for attribute in definition.attr} if definition else set()
    return {name: op.get_attr(name) for name in names if name in known}
