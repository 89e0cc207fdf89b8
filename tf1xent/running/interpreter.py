"""How the Python at hand was started, so that another one can be started like it."""

import sys
from typing import List, Optional, Sequence

# Python's options by letter: those that have a value, and those that say what to run.
_WITH_VALUE = "WX"
_PROGRAM = "cm"
_LONG_WITH_VALUE = "--check-hash-based-pycs"

# By attribute of `sys.flags`, the options with which Python imports no `sitecustomize` from
# PYTHONPATH.
_OPTIONS_THAT_HINDER = {"isolated": "-I", "ignore_environment": "-E", "no_site": "-S"}


def refusal() -> Optional[str]:
    """Returns why another Python like this one could not be patched at its start, or None."""
    if not sys.executable:
        return "needs a Python that knows its own path, and `sys.executable` is empty."
    for attribute, option in _OPTIONS_THAT_HINDER.items():
        if getattr(sys.flags, attribute):
            return f"needs PYTHONPATH, which Python's option {option} ignores. Leave it out."
    return None


def own_options() -> List[str]:
    """Returns the options with which this Python was started, as in ["-O", "-W", "error"]."""
    return leading_options(_own_arguments()[1:])


def leading_options(arguments: Sequence[str]) -> List[str]:
    """Returns Python's own options at the begin of the arguments that Python got.

    >>> leading_options(["-Bu", "-W", "error", "-Xdev", "-Om", "tf1xent", "run", "-v"])
    ['-Bu', '-W', 'error', '-Xdev', '-O']
    """
    found: List[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == _LONG_WITH_VALUE:
            found += [argument, next(rest, "")]
            continue
        if not argument.startswith("-") or argument in ("-", "--"):
            break
        for position, letter in enumerate(argument[1:], start=1):
            if letter in _PROGRAM:
                return found if position == 1 else [*found, argument[:position]]
            if letter in _WITH_VALUE:
                found.append(argument)
                if position == len(argument) - 1:
                    found.append(next(rest, ""))
                break
        else:
            found.append(argument)
    return found


def _own_arguments() -> List[str]:
    found: Optional[List[str]] = getattr(sys, "orig_argv", None)  # since Python 3.10
    if found is not None:
        return found
    import ctypes  # slow, and only here

    # What `sys.orig_argv` is made of. `subprocess` can only guess from `sys.flags`, without -u, -i
    # and most of -X.
    number, texts = ctypes.c_int(), ctypes.POINTER(ctypes.c_wchar_p)()
    ctypes.pythonapi.Py_GetArgcArgv(ctypes.byref(number), ctypes.byref(texts))
    return [str(texts[i]) for i in range(number.value)]
