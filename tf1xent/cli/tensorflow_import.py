"""Imports TensorFlow for a command: without its log lines, and with one line for a failure."""

import contextlib
import faulthandler
import importlib
import logging
import os
import re
import sys
from typing import Iterator, Optional

_ERROR = re.compile(r"\s*[\w.]*(Error|Exception)\b.*\S")


def tensorflow_error() -> Optional[str]:
    """Imports TensorFlow; returns in one line why that fails, or None."""
    # Its C++ code logs to stderr, also in sessions; 3 leaves what ends the process.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _without_standard_error():
            importlib.import_module("tensorflow")
            importlib.import_module("tensorflow.compat.v1")
    except ModuleNotFoundError as error:
        if error.name == "tensorflow":
            return "needs TensorFlow, which is not installed. Run: pip install tensorflow"
        return _failure(error)
    except Exception as error:  # whatever a broken installation raises
        return _failure(error)
    # Its Python code logs too: what is deprecated in TensorFlow itself.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return None


def _failure(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    if lines[0].startswith("Traceback"):  # TensorFlow 1.x puts a whole traceback into its message
        lines = [line for line in lines if _ERROR.fullmatch(line)] or lines
        return f"needs TensorFlow, but its import fails: {lines[0]}"
    return f"needs TensorFlow, but its import fails: {type(error).__name__}: {lines[0]}"


@contextlib.contextmanager
def _without_standard_error() -> Iterator[None]:
    """Drops what is written to file descriptor 2.

    While it is imported, TensorFlow logs lines that no setting of its own silences. What it says
    before it aborts the process is lost; then Python's traceback says where that happened.
    """
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    watches = not faulthandler.is_enabled()
    if sys.stderr is not None:
        sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    if watches:
        faulthandler.enable(kept)
    try:
        yield
    finally:
        if watches:
            faulthandler.disable()
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
