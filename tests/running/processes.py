"""Runs programs, plain and under `tf1xent run`."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

PROGRAMS = Path(__file__).resolve().parent / "programs"


def environment(**variables):
    """Returns an environment for both, with variables set, or unset where None."""
    not_passed_on = ("PYTHONPATH", "PYTHONUNBUFFERED", "COLUMNS")
    result = {name: value for name, value in os.environ.items() if name not in not_passed_on}
    result.update(TF_CPP_MIN_LOG_LEVEL="3")
    result.update({name: value for name, value in variables.items() if value is not None})
    return result


def execute(command, **options):
    """Runs a command; returns its exit status, its output and its errors, or why it has none."""
    process = subprocess.run(command, capture_output=True, text=True, **options)
    return SimpleNamespace(code=process.returncode, out=process.stdout, err=process.stderr)


def plain(*arguments, flags=(), variables=None, **options):
    """Runs a program as Python itself does."""
    return execute(
        [sys.executable, *flags, *arguments], env=environment(**(variables or {})), **options
    )


def run(*arguments, flags=(), variables=None, **options):
    """Runs ``tf1xent run`` with `arguments`, by a Python that finds the checkout in no folder."""
    # Started by the file, tf1xent does not have to be on PYTHONPATH, which the program sees.
    command = [sys.executable, *flags, str(STARTER), "run", *arguments]
    return execute(command, env=environment(**(variables or {})), **options)


STARTER = PROGRAMS / "tf1xent_command.py"
