"""Registers the gradients that saved graphs name, as soon as TensorFlow is imported.

A graph that carries our gradient names must work after nothing but ``import tensorflow; import
tf1xent``, in either order, and neither import may wait for the other. So where TensorFlow is not
imported yet, a finder at the head of `sys.meta_path` waits for it. The finder leaves once the
gradients are registered.

`wrapt` has such hooks too, but takes longer to import than all of tf1xent may.
"""

import importlib
import importlib.util
import sys
import threading
from typing import Any, Callable

# Importing one of these registers its gradients.
_MODULES = (
    "tf1xent._math.softmax",
    "tf1xent._math.softmax_kernels",
    "tf1xent._math.softcap",
    "tf1xent._math.focal",
    "tf1xent._math.chunked_linear",
    "tf1xent.gradients",
    "tf1xent.second_order",
)
_TENSORFLOW = "tensorflow"
_SEAM = "tf1xent._tf"
# When the first of these is complete, so is all that `_MODULES` import. `import tf1xent.nn` may be
# what imports TensorFlow: then nothing can be registered before the seam itself is complete.
_WAITED_FOR = (_TENSORFLOW, "tf1xent._math", "tf1xent.kernels")


def register_when_tensorflow_is_there() -> None:
    """Registers all gradients now, or when TensorFlow is imported."""
    if sys.modules.get(_TENSORFLOW) is None:  # None: somebody forbids its import, for now
        sys.meta_path.insert(0, _Finder())
    else:
        _register()


def _register() -> None:
    for name in _MODULES:
        importlib.import_module(name)


class _Finder:
    """Finds the modules that are waited for as Python does, and registers after their import."""

    def __init__(self) -> None:
        self._searching = threading.local()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Returns the module's own spec with a loader that notices the end of the import."""
        if name not in _WAITED_FOR or getattr(self._searching, "now", False):
            return None
        self._searching.now = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._searching.now = False
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader, self._imported)  # type: ignore[assignment]
        return spec

    def _imported(self, name: str) -> None:
        if name == _TENSORFLOW and _SEAM in sys.modules:
            return  # a package of ours imports it; the next module that is waited for comes soon
        _register()
        if self in sys.meta_path:
            sys.meta_path.remove(self)  # type: ignore[arg-type]


class _Loader:
    """A module's own loader, but for a call after the module is executed.

    What the call raises, the import raises: a TensorFlow for which nothing can be registered must
    not look as if all were well.
    """

    def __init__(self, loader: Any, executed: Callable[[str], None]) -> None:
        self._loader = loader
        self._executed = executed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        name = module.__name__
        # Whoever looks at the module later sees its own loader.
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._executed(name)
