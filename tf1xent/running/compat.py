"""``import tensorflow`` in a program for TF 1.x gives `tensorflow.compat.v1`, where that is TF 2.x.

What a program imports is decided by who imports. A program's own modules get `tensorflow.compat.v1`
under the name of `tensorflow`, with v2 behaviour disabled; TensorFlow itself, Keras and all other
installed packages get the real one, which they are written for. Only an import statement knows who
imports, so `builtins.__import__` is what is replaced. The other ways were:

- To put `tensorflow.compat.v1` into ``sys.modules["tensorflow"]``, or its names into the real
  module: installed packages that are imported later get it too, and are not written for it.
- A module in between that looks at the caller's frame at each attribute: slow, and a library's
  function that the program passes on is called from anywhere.
- A finder or loader that translates the program's source: Python compiles ``__main__`` itself, and
  code from `exec`, a notebook or a pickle comes by no loader.

What it costs: one or two microseconds for each import statement that is executed. The import of
TensorFlow 2.21 executes some forty thousand, so a tenth of a second.
"""

import builtins
import importlib
import importlib.util
import os
import sys
import types
from importlib.machinery import PathFinder
from typing import Any, Callable, Dict, List, Optional, Sequence

from tf1xent.running.contrib import answer

_TENSORFLOW = "tensorflow"
_COMPAT_V1 = "tensorflow.compat.v1"
# A module below a folder of one of these names belongs to an installed package.
_INSTALLED = {"site-packages", "dist-packages"}
# Packages that are never a program's, wherever they lie.
_NO_PROGRAMS = {"tensorflow", "tensorflow_core", "tf1xent"}
# With this variable TensorFlow takes Keras 2, the package tf_keras, for its own.
_KERAS_2_VARIABLE = "TF_USE_LEGACY_KERAS"
# What of Keras 3 builds no graphs, and works beside those of TF 1.x.
_KERAS_WITHOUT_GRAPHS = {"datasets", "preprocessing", "utils"}


def install() -> None:
    """Lets the program that this process runs import TF 1.x's names as `tensorflow`.

    Call it before the program's first line; no TensorFlow need be imported yet. On TF 1.x nothing
    changes. On TF 2.x, what has no place in `tensorflow.compat.v1`, such as ``tf.contrib``, raises
    an AttributeError or ImportError that says what to use instead.
    """
    if _Compat.installed is None:
        _Compat.installed = _Compat()
        _Compat.installed.begin()


class _Compat:
    """What is replaced in this process while a program for TF 1.x runs.

    Attributes:
      v1: what the program gets as ``tensorflow``; None before TensorFlow's import, and on TF 1.x.
    """

    installed: Optional["_Compat"] = None

    def __init__(self) -> None:
        self.v1: Any = None
        self._import = builtins.__import__
        self._import_module = importlib.import_module
        self._excepthook = sys.excepthook
        self._parts: Dict[str, _Part] = {}

    def begin(self) -> None:
        """Replaces Python's functions, and waits for TensorFlow."""
        if importlib.util.find_spec("tf_keras") is not None:
            os.environ.setdefault(_KERAS_2_VARIABLE, "1")
        self._hooks = _hook(self, self._import), _module_hook(self, self._import_module)
        builtins.__import__, importlib.import_module = self._hooks
        sys.excepthook = self._show
        if sys.modules.get(_TENSORFLOW) is None:
            # Behind those who wait for TensorFlow too: they see it without v2 behaviour.
            place = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else 0
            sys.meta_path.insert(place, _Finder(self))
        else:
            self.complete()

    def complete(self) -> None:
        """Disables v2 behaviour, as soon as TensorFlow is imported; on TF 1.x undoes `begin`."""
        if self.v1 is not None:
            return
        tensorflow = sys.modules[_TENSORFLOW]
        if "Session" in dir(tensorflow):
            self._end()
            return
        v1: Any = self._import_module(_COMPAT_V1)
        v1.disable_v2_behavior()
        # Here `tf.compat.v1` is `tf`, as on TF 1.x; `v1.compat.v1` has fewer names.
        v1.compat = self._import_module("tensorflow.compat")
        self._parts = {
            name: _Part(name, getattr(owner, name.split(".")[-1]), self)
            for name, owner in (("keras", v1), ("layers", v1), ("nn.rnn_cell", v1.nn))
        }
        v1.keras, v1.layers, v1.nn.rnn_cell = self._parts.values()
        v1.__getattr__ = self._missing
        if "__getattr__" in getattr(v1, "__all__", ()):
            v1.__all__.remove("__getattr__")  # ``from tensorflow import *`` must not take it
        self.v1 = v1

    def _end(self) -> None:
        if builtins.__import__ is self._hooks[0]:
            builtins.__import__ = self._import
        if importlib.import_module is self._hooks[1]:
            importlib.import_module = self._import_module
        if sys.excepthook == self._show:
            sys.excepthook = self._excepthook

    def is_program(self, frame: Any) -> bool:
        """Tells whether the code that a frame executes is the program's own."""
        # Code that comes from no file is of whoever executes it: TensorFlow does that too.
        while frame.f_back and not _has_home(frame.f_globals):
            frame = frame.f_back
        name = frame.f_globals.get("__name__", "")
        package = name.partition(".")[0]
        if package in _NO_PROGRAMS:
            return False
        if name == "__main__":
            return True
        spec = getattr(sys.modules.get("__main__"), "__spec__", None)
        if spec is not None and package == spec.name.partition(".")[0]:
            return True  # with ``-m`` also of an installed package
        folders = str(frame.f_globals.get("__file__", "")).replace(os.sep, "/").split("/")
        return _INSTALLED.isdisjoint(folders)

    def imported(self, name: str, items: Sequence[str]) -> Any:
        """Returns what the program's ``import NAME`` or ``from NAME import ITEMS`` is to use."""
        self._import(_TENSORFLOW)
        self.complete()
        if self.v1 is None:
            return self._import(name, None, None, items)
        module = self.module(name, items)
        return module if items else self.v1

    def module(self, name: str, items: Sequence[str] = ()) -> Any:
        """Returns the module that the program knows as NAME, with the items in it."""
        parts = name.split(".")[1:]
        found = self.v1
        for part in parts:
            found = getattr(found, part, None)
        public = not parts or parts[0] in dir(self.v1)
        if found is None or not public:
            self._refuse([*parts, *items[:1]], ModuleNotFoundError)
            # No part of the interface, as in ``from tensorflow.python.ops import nn_ops``.
            return self._import(name, None, None, items) if items else self._import_module(name)
        for item in items:
            if item != "*" and not hasattr(found, item):
                self._refuse([*parts, item], ImportError)
        return found

    def _refuse(self, parts: Sequence[str], kind: Callable[..., ImportError]) -> None:
        message = self._why_not(".".join(parts))
        if message:
            raise kind(message, name=".".join([_TENSORFLOW, *parts]))

    def _why_not(self, name: str) -> str:
        """Returns why there is no ``tf.NAME``, or "" if that is no question of the version."""
        for part in self._parts:
            if name == part or name.startswith(part + "."):
                return "" if self.has_keras_2 else answer(name)
        return "" if name.partition(".")[0] in dir(self.v1) else answer(name)

    @property
    def has_keras_2(self) -> bool:
        """Whether this TensorFlow's Keras can build graphs of TF 1.x. Imports Keras."""
        try:
            return hasattr(self._parts["layers"]._whole, "Dense")
        except ImportError:
            return False

    def part_has(self, part: "_Part", name: str) -> Any:
        """Returns ``tf.PART.NAME``."""
        source = part._whole
        if not self.has_keras_2:
            source = self._without_keras_2(part.__name__, name)
        if name.startswith("__") or hasattr(source, name):
            return getattr(source, name)
        full_name = f"{part.__name__}.{name}"
        raise AttributeError(
            self._why_not(full_name) or f"module 'tensorflow' has no attribute {full_name!r}"
        )

    def _without_keras_2(self, part: str, name: str) -> Any:
        if part == "keras":
            return self._parts[part]._whole if name in _KERAS_WITHOUT_GRAPHS else None
        from tf1xent import _tf

        return _tf.layers_without_keras() if part == "layers" else _tf.rnn_cells_without_keras()

    def _missing(self, name: str) -> Any:
        """The ``__getattr__`` of `tensorflow.compat.v1`, for what it does not have itself."""
        module = sys.modules.get(f"{_TENSORFLOW}.{name}")
        if module is not None:  # as in ``tf.python.framework``
            return module
        full_name = ".".join([name, *_attributes_that_follow(sys._getframe(1))])
        raise AttributeError(
            (not name.startswith("_") and self._why_not(full_name))
            or f"module 'tensorflow' has no attribute {name!r}"
        )

    def _show(self, kind: Any, error: Any, traceback: Any) -> None:
        """The ``sys.excepthook``: shows the traceback that Python alone would have made."""
        shown: List[BaseException] = []
        waiting = [error]
        while waiting:
            each = waiting.pop()
            if each is not None and all(each is not other for other in shown):
                shown.append(each)
                each.__traceback__ = _without_own_frames(each.__traceback__)
                waiting += [each.__cause__, each.__context__]
        self._excepthook(kind, error, error.__traceback__)


class _Part(types.ModuleType):
    """``tf.keras``, ``tf.layers`` or ``tf.nn.rnn_cell``: what of it this TensorFlow can do."""

    def __init__(self, name: str, whole: Any, compat: _Compat) -> None:
        super().__init__(name)
        self._whole = whole
        self._compat = compat

    def __getattr__(self, name: str) -> Any:
        return self._compat.part_has(self, name)

    def __dir__(self) -> List[str]:
        return dir(self._whole)


class _Finder:
    """Finds TensorFlow as Python does, and notices the end of its import."""

    def __init__(self, compat: _Compat) -> None:
        self._compat = compat

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Returns TensorFlow's own spec; its loader calls us once."""
        if name != _TENSORFLOW:
            return None
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        spec = PathFinder.find_spec(name, path, target)
        loader: Any = spec and spec.loader
        if loader is not None:
            execute = loader.exec_module

            def exec_module(module: Any) -> None:
                del loader.exec_module
                execute(module)
                self._compat.complete()

            loader.exec_module = exec_module
        return spec


# Python leaves functions of this name and file out of the tracebacks of imports and out of the
# frames that it counts for a warning's line, as it does with its own.
_HOOK = """
def _call_with_frames_removed(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and name.partition(".")[0] == "tensorflow":
        if compat.is_program(_getframe(1)):
            return compat.imported(name, fromlist or ())
    return original(name, globals, locals, fromlist, level)
"""


def _hook(compat: _Compat, original: Callable[..., Any]) -> Callable[..., Any]:
    """Returns what takes the place of `builtins.__import__`."""
    names: Dict[str, Any] = dict(compat=compat, original=original, _getframe=sys._getframe)
    names[_OWN] = True
    exec(compile(_HOOK, "<frozen importlib._bootstrap>", "exec"), names)
    return names["_call_with_frames_removed"]


def _module_hook(compat: _Compat, original: Callable[..., Any]) -> Callable[..., Any]:
    """Returns what takes the place of `importlib.import_module`."""

    def import_module(name: str, package: Optional[str] = None) -> Any:
        if name.partition(".")[0] == _TENSORFLOW and compat.is_program(sys._getframe(1)):
            compat.imported(_TENSORFLOW, ())
            if compat.v1 is not None:
                return compat.module(name)
        return original(name, package)

    return import_module


def _has_home(namespace: Dict[str, Any]) -> bool:
    return "__file__" in namespace or namespace.get("__name__") == "__main__"


# In the globals of a frame: it is one of ours.
_OWN = "_is_a_hook_of_tf1xent"
globals()[_OWN] = True


def _without_own_frames(traceback: Any) -> Any:
    kept = []
    while traceback is not None:
        if _OWN not in traceback.tb_frame.f_globals:
            kept.append(traceback)
        traceback = traceback.tb_next
    for each, following in zip(kept, [*kept[1:], None]):
        each.tb_next = following
    return kept[0] if kept else None


def _attributes_that_follow(frame: Any) -> List[str]:
    """Returns ["rnn", "GRUCell"] where a program is reading ``tf.contrib`` of a longer name."""
    import dis

    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] == _TENSORFLOW:
        frame = frame.f_back  # a module of TensorFlow's that wraps the one that we are asked by
    names: List[str] = []
    for instruction in dis.get_instructions(frame.f_code):
        if instruction.offset <= frame.f_lasti or instruction.opname in ("CACHE", "EXTENDED_ARG"):
            continue
        if instruction.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
            break
        names.append(instruction.argval)
    return names
