"""Which line of the program built an op, or calls one of TensorFlow's functions."""

import os
import sys
import types
from typing import Any, Callable, Iterable, Optional, Tuple

from tensorflow.python.framework import func_graph
from tensorflow.python.util import tf_decorator, tf_stack

from tf1xent._typing import Operation

_PYTHON = os.path.dirname(os.path.dirname(os.path.abspath(func_graph.__file__)))
_TENSORFLOW = os.path.dirname(_PYTHON) + os.sep
# Decorators, and what runs functions that AutoGraph has converted: their frames say nothing.
_WRAPPERS = tuple(os.path.join(_PYTHON, name) + os.sep for name in ("util", "autograph"))
_LIBRARY = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# Packages of their own that call TensorFlow's functions for a program.
_BESIDE_TENSORFLOW = ("keras", "tensorflow_estimator", "tf_keras", "tf_slim")


def line_of(op: Operation) -> Optional[str]:
    """Returns ``file:line, in function`` of the program's call that made an op, or None."""
    try:
        frames = list(op.traceback or ())
    except Exception:  # graphs of functions and of files have none
        return None
    return _innermost_line(frames)


def calling_line() -> Tuple[str, str]:
    """Returns the program's line that is being executed, and the function of a library it calls.

    The line is ``file:line, in function``, or "" if no frame is the program's, as in a thread of
    TensorFlow's. The function has its public name if it has one, like "tf.losses.NAME".
    """
    # TensorFlow's own account of the stack has the program's lines for the code that AutoGraph has
    # made of them.
    return _innermost_line(tf_stack.extract_stack()) or "", _called_function()


def public_name(function: Callable[..., Any]) -> str:
    """Returns the name under which programs know a function of TensorFlow's, as in "tf.nn.NAME"."""
    undecorated = tf_decorator.unwrap(function)[1]
    for attribute in ("_tf_api_names_v1", "_tf_api_names"):
        names = getattr(undecorated, attribute, ())
        if names:
            return "tf." + str(names[0])
    return f"{function.__module__}.{function.__name__}"


def _innermost_line(frames: Iterable[Any]) -> Optional[str]:
    folders = _library_folders()
    for frame in reversed(list(frames)):
        if hasattr(frame, "filename"):
            path, line, function = frame.filename, frame.lineno, frame.name
        else:
            path, line, function = frame[:3]
        if not os.path.isabs(path):
            path = os.path.abspath(path) if os.path.exists(path) else path
        if not path.startswith(folders):
            return f"{path}:{line}, in {function}"
    return None


def _called_function() -> str:
    """Returns the outermost function of the libraries above the program's innermost frame."""
    folders = _library_folders()
    frame: Optional[types.FrameType] = sys._getframe()
    called: Optional[types.FrameType] = None
    while frame is not None and frame.f_code.co_filename.startswith(folders):
        if not frame.f_code.co_filename.startswith((_LIBRARY, *_WRAPPERS)):
            called = frame
        frame = frame.f_back
    if called is None:
        return ""
    module, name = called.f_globals.get("__name__", ""), called.f_code.co_name
    function = called.f_globals.get(name)
    return public_name(function) if callable(function) else f"{module}.{name}"


def _library_folders() -> Tuple[str, ...]:
    beside = (getattr(sys.modules.get(name), "__file__", None) for name in _BESIDE_TENSORFLOW)
    folders = [os.path.dirname(path) + os.sep for path in beside if path]
    return (_TENSORFLOW, _LIBRARY, *folders)
