"""The public names and their signatures are those of public_api.txt, which changes only knowingly.

python -m tests.repository.test_public_api > tests/repository/public_api.txt
"""

import enum
import importlib
import inspect
from pathlib import Path

import tensorflow.compat.v1 as tf

LISTED = Path(__file__).with_name("public_api.txt")
MODULES = (
    "tf1xent",
    *("tf1xent." + name for name in "curvature errors graphs kernels losses metrics".split()),
    *("tf1xent." + name for name in "migrate nn second_order verification".split()),
)


def signature(function):
    """Return a signature without annotations, which Pythons print differently.

    Nor with `_sentinel`, which the functions of some TensorFlows begin with, and ours there.
    """
    asked = inspect.signature(function)
    parameters = [p.replace(annotation=p.empty) for p in asked.parameters.values()]
    parameters = [p for p in parameters if p.name != "_sentinel"]
    return str(asked.replace(parameters=parameters, return_annotation=asked.empty))


def members(name, value):
    """Yield a line for a public function, or for each public member of a class."""
    if inspect.ismodule(value):
        return
    if name.startswith("tf1xent.nn.") and hasattr(tf.nn, value.__name__):
        # Its arguments are those of the TensorFlow at hand, and one more.
        implementation = inspect.signature(value).parameters["implementation"]
        yield f"{name}: as tf.nn's, *, {implementation.name}={implementation.default}"
        return
    if not inspect.isclass(value):
        yield name + (signature(value) if callable(value) else f" = {value!r}")
        return
    bases = [base.__name__ for base in value.__mro__[1:] if base is not object]
    yield "class {}({})".format(name, ", ".join(bases))
    own = {} if issubclass(value, enum.Enum) else vars(value)
    fields = getattr(value, "_fields", ())
    if fields:
        yield "{} fields: {}".format(name, ", ".join(fields))
    for member in sorted(own):
        if member.startswith("_") or member in fields:
            continue
        found = getattr(value, member)
        kind = f" = {found!r}" if isinstance(found, (str, int)) else ""
        yield f"{name}.{member}" + (signature(found) if callable(found) else kind)


def public_api():
    """Return the lines of all public names."""
    lines = []
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        names = getattr(module, "__all__", None) or [n for n in vars(module) if n[0].isupper()]
        for name in sorted(names):
            lines += members(f"{module_name}.{name}", getattr(module, name))
    return lines


def test_public_names_and_signatures():
    assert public_api() == LISTED.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    print("\n".join(public_api()))
