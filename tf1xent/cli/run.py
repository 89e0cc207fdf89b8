"""``tf1xent run``."""

import argparse
import os
import sys
from typing import Any, Optional

from tf1xent.cli.messages import refused
from tf1xent.running import interpreter, launching
from tf1xent.running.settings import Settings, own_path, this_python

COMMAND = "run"
# By the option, what it does. Each is a field of `Settings`.
_SWITCHES = {
    "--losses": "replace the two functions of tf.losses too",
    "--override-only": "correct only the derivatives of TensorFlow's own ops: no op is added, and "
    "random numbers stay those of the program without tf1xent",
    "--report": "at exit, print to stderr what was served, how often, and from which line",
    "--compat": "on TensorFlow 2, run a program written for TensorFlow 1: `import tensorflow` "
    "gives tensorflow.compat.v1",
    "--children": "patch the processes too that the program starts with the same Python; those "
    "that it forks have the patch in any case",
}


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        COMMAND,
        usage="tf1xent run [OPTION...] [-m] SCRIPT [ARG...]",
        help="run a TensorFlow program as Python would, patched",
        description="Runs a program as `python [-m] SCRIPT ARG...` would, unchanged, with "
        "TensorFlow patched before the program has any of its functions. What stands after SCRIPT "
        "belongs to the program.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "-m", dest="is_module", action="store_true", help="SCRIPT is the name of a module"
    )
    parser.add_argument(
        "--implementation",
        choices=("graph", "kernel", "auto"),
        help="of the losses, default what TF1XENT_IMPLEMENTATION says, or graph",
    )
    for option, does in _SWITCHES.items():
        parser.add_argument(option, action="store_true", help=does)
    # One list: for a SCRIPT of its own, argparse would drop a "--" that is the program's.
    parser.add_argument(
        "program",
        metavar="SCRIPT",
        nargs=argparse.PARSER,
        help="a file, a folder, a zip file or -, as Python takes them; all that follows goes to "
        "the program",
    )
    parser.set_defaults(check=check, run=run, needs_tensorflow=False)


def check(options: argparse.Namespace) -> Optional[str]:
    """Returns why the options contradict each other, or why this Python will not do, or None."""
    if options.override_only and (options.losses or options.implementation):
        needless = "--losses" if options.losses else "--implementation"
        return f"`--override-only` leaves all functions as they are. Leave out `{needless}`."
    return interpreter.refusal()


def run(options: argparse.Namespace) -> int:
    """Replaces this process by the program's; returns only if that fails."""
    settings = Settings(
        implementation=options.implementation,
        losses=options.losses,
        override_only=options.override_only,
        report=options.report,
        compat=options.compat,
        children=options.children,
        python=this_python(),
        pythonpath=own_path(os.environ),
    )
    script, *arguments = options.program[options.program[0] == "--" :]
    program = launching.Program(script, options.is_module, arguments)
    try:
        return launching.launch(program, settings)
    except OSError as error:
        return refused(COMMAND, f"cannot start {sys.executable}: {error.strerror}.")
