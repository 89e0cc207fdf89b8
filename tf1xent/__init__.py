"""Softmax cross-entropy for TensorFlow graphs: exact to every order, accurate, on TF 1.13 to 2.21.

``import tf1xent; tf1xent.patch()`` replaces TensorFlow's functions by those of `tf1xent.nn`.
``tf1xent.override_gradients()`` corrects only the derivatives of TensorFlow's own ops, also in
graphs that exist already. `tf1xent.graphs` reports on graphs in files and rewrites them.

The import itself imports no TensorFlow: names load on first use. It registers the gradients that
saved graphs name as soon as TensorFlow is imported, before or after tf1xent.
"""

import importlib
from typing import TYPE_CHECKING, Any, List

from tf1xent import _registration, errors

if TYPE_CHECKING:  # the names of `_PACKAGES` and `_HOMES`, for type checkers and editors
    from tf1xent import curvature, diagnostics, graphs, kernels, losses, metrics, nn, second_order
    from tf1xent import gradients as gradients
    from tf1xent import patching as patching
    from tf1xent.gradients import override_gradients, restore_gradients
    from tf1xent.patching import get_original, is_patched, patch, patched, status, unpatch

__version__ = "0.1.0"

__all__ = [
    "curvature",
    "diagnostics",
    "errors",
    "get_original",
    "graphs",
    "is_patched",
    "kernels",
    "losses",
    "metrics",
    "nn",
    "override_gradients",
    "patch",
    "patched",
    "restore_gradients",
    "second_order",
    "status",
    "unpatch",
]

# What needs TensorFlow: the packages, and the functions by the package that defines them.
_PACKAGES = (
    "curvature",
    "diagnostics",
    "gradients",
    "graphs",
    "kernels",
    "losses",
    "metrics",
    "nn",
    "patching",
    "second_order",
)
_HOMES = {
    "get_original": "patching",
    "is_patched": "patching",
    "override_gradients": "gradients",
    "patch": "patching",
    "patched": "patching",
    "restore_gradients": "gradients",
    "status": "patching",
    "unpatch": "patching",
}

if not TYPE_CHECKING:  # a type checker would believe that every name exists

    def __getattr__(name: str) -> Any:
        """Loads a name on first use. Not stored here, so that a reload finds the new one."""
        if name in _PACKAGES:
            return importlib.import_module(f"tf1xent.{name}")
        if name in _HOMES:
            return getattr(importlib.import_module(f"tf1xent.{_HOMES[name]}"), name)
        raise AttributeError(f"module 'tf1xent' has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__, *_PACKAGES})


_registration.register_when_tensorflow_is_there()
