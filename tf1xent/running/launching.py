"""Replaces this process by a Python that runs a program, patched."""

import os
import subprocess
import sys
from typing import List, NamedTuple

from tf1xent.running import interpreter
from tf1xent.running.settings import Settings, environment_with


class Program(NamedTuple):
    """What to run: `script` is the name of a module if `is_module`, else a path."""

    script: str
    is_module: bool
    arguments: List[str]


def launch(program: Program, settings: Settings) -> int:
    """Runs a program as Python itself would; returns only on Windows, with the exit status.

    Raises:
      OSError: the system does not start Python, for instance since the arguments are too long.
    """
    command = [sys.executable, *interpreter.own_options(), *_arguments(program)]
    environment = environment_with(settings, os.environ)
    if os.name == "nt":  # there the shell would not wait for a process that takes this one's place
        return subprocess.call(command, env=environment)
    # What Python has said so far is lost else: before 3.9 it holds back also what goes to stderr.
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    os.execve(sys.executable, command, environment)


def _arguments(program: Program) -> List[str]:
    if program.is_module:
        return ["-m", program.script, *program.arguments]
    if program.script.startswith("-") and program.script != "-":
        return ["--", program.script, *program.arguments]
    return [program.script, *program.arguments]
