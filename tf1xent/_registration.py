"""Registers the gradients that saved graphs name, as soon as TensorFlow is imported.

A graph that carries our gradient names must work after nothing but ``import tensorflow; import
tf1xent``, in either order, and neither import may wait for the other. So where TensorFlow is not
imported yet, a finder at the head of `sys.meta_path` waits for it. The finder leaves once the
gradients are registered. What else is to be done then goes the same way: see `registering_with`.

`wrapt` has such hooks too, but takes longer to import than all of tf1xent may.
"""

import importlib
import importlib.util
import sys
import threading
from typing import Any, Callable, Dict

# Importing one of these registers its gradients.
_MODULES = (
    "tf1xent._math.softmax",
    "tf1xent._math.label_gap",
    "tf1xent._math.softmax_kernels",
    "tf1xent._math.softcap",
    "tf1xent._math.focal",
    "tf1xent._math.shard_statistics",
    "tf1xent.gradients",
    "tf1xent.second_order",
)
_TENSORFLOW = "tensorflow"
# Where TensorFlow 1.15 has its code; a program may import that first.
_CORE = "tensorflow_core"
_OURS = "tf1xent"

# Registers, and does what else is to be done when TensorFlow is there.
_Action = Callable[[], None]


def _register() -> None:
    for name in _MODULES:
        importlib.import_module(name)


_action: _Action = _register


def register_when_tensorflow_is_there() -> None:
    """Registers all gradients now, or when TensorFlow is imported."""
    if sys.modules.get(_TENSORFLOW) is None:  # None: somebody forbids its import, for now
        sys.meta_path.insert(0, _Finder())
    else:
        _register()


def registering_with(action: Callable[[_Action], None]) -> None:
    """Calls ``action(register)`` when TensorFlow is there, instead of `register` alone.

    That is at once if it is there already; else at the end of its import, before the program that
    imports it goes on, or has any of its functions.
    """
    global _action
    register, _action = _action, lambda: action(register)
    if sys.modules.get(_TENSORFLOW) is not None:
        _action()


class _Thread(threading.local):
    """What a thread is doing: looking for a module, and in how many awaited imports it is."""

    searching = False
    depth = 0


class _Finder:
    """Finds the modules that are waited for as Python does, and acts after their import.

    These are TensorFlow and all modules of ours. Each may be what imports another; nothing is
    registered before the first is complete, since it may be needed.
    """

    def __init__(self) -> None:
        self._thread = _Thread()
        self._tensorflow_is_there = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Returns the module's own spec with a loader that notices the end of the import."""
        awaited = name.startswith(_OURS + ".") or name in (_TENSORFLOW, _CORE)
        if not awaited or self._thread.searching:
            return None
        self._thread.searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._thread.searching = False
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]
        return spec

    def begin(self) -> None:
        """Notes the begin of an import."""
        self._thread.depth += 1

    def end(self, name: str, succeeded: bool) -> None:
        """Notes the end of an import, and acts if it was the first to begin."""
        self._thread.depth -= 1
        if name == _TENSORFLOW:
            self._tensorflow_is_there = succeeded
        if succeeded and self._tensorflow_is_there and not self._thread.depth:
            self._thread.depth += 1  # for what the action imports
            try:
                _action()
            finally:
                self._thread.depth -= 1
            if self in sys.meta_path:
                sys.meta_path.remove(self)  # type: ignore[arg-type]


class _Loader:
    """A module's own loader, but for calls before and after the module is executed.

    What the action raises, the import raises: a TensorFlow for which nothing can be registered must
    not look as if all were well.
    """

    def __init__(self, loader: Any, finder: _Finder) -> None:
        self.loader = loader
        self.finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: Any) -> Any:
        return self.loader.create_module(spec)

    def watched(self, module: Any) -> "_Execution":
        # Whoever looks at the module later sees its own loader.
        module.__loader__ = module.__spec__.loader = self.loader
        return _Execution(self.finder, module.__name__)

    # Python takes its own frames, which it knows by the name of their file, out of the tracebacks
    # of failing imports, and out of what it counts for the line of a warning. With this name a
    # program sees what it would see without us.
    _names: Dict[str, Any] = {}
    exec(
        compile(
            "def exec_module(self, module):\n"
            "    with self.watched(module):\n"
            "        self.loader.exec_module(module)\n",
            "<frozen importlib._bootstrap>",
            "exec",
        ),
        _names,
    )
    exec_module = _names["exec_module"]


class _Execution:
    """Context manager: the execution of a module."""

    def __init__(self, finder: _Finder, name: str) -> None:
        self._finder = finder
        self._name = name

    def __enter__(self) -> None:
        self._finder.begin()

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._finder.end(self._name, kind is None)
