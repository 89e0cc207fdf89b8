"""The parser of the command line, and what any command needs of the process it runs in."""

import argparse
import os
import signal
import sys
from typing import List, Optional

import tf1xent
from tf1xent.cli import (
    build_kernels,
    demo,
    diagnose,
    doctor,
    inspect,
    migrate,
    rewrite,
    run,
    spectrum,
    status,
    verify,
    worker,
)
from tf1xent.cli.messages import CANNOT_RUN, SIGNALLED, refused
from tf1xent.cli.signals import Signals
from tf1xent.cli.tensorflow_import import tensorflow_error

# In the order in which the help lists them.
COMMANDS = (
    demo,
    doctor,
    run,
    migrate,
    verify,
    inspect,
    rewrite,
    spectrum,
    worker,
    diagnose,
    build_kernels,
    status,
)


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    result = argparse.ArgumentParser(
        prog="tf1xent", description="Exact cross-entropy for TensorFlow graphs."
    )
    result.add_argument("--version", action="version", version=f"tf1xent {tf1xent.__version__}")
    result.set_defaults(check=lambda options: None, needs_tensorflow=True)
    commands = result.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return result


class _OutputError(Exception):
    """What a command printed does not arrive, though somebody wants it."""


def _run(arguments: Optional[List[str]], signals: Signals) -> int:
    """Runs one subcommand, and makes sure that what it printed arrives."""
    try:
        options = parser().parse_args(arguments)
        error = options.check(options)
        if error is None and options.needs_tensorflow:
            error = tensorflow_error()
        signals.check()
        return refused(options.command, error) if error else options.run(options)
    finally:
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _OutputError(error.strerror) from error


def _forget_output() -> None:
    """Lets Python end without a complaint about output that nobody takes."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs one subcommand; returns the exit code that `tf1xent.cli` describes."""
    signals = Signals()
    try:
        with signals.handled():
            code = _run(arguments, signals)
    except KeyboardInterrupt:
        return _stopped(signals.received or signal.SIGINT)
    except BaseException as error:
        if signals.received is not None:  # the error is what somebody has made of it
            return _stopped(signals.received)
        if isinstance(error, BrokenPipeError):
            _forget_output()
            return SIGNALLED + getattr(signal, "SIGPIPE", 13)
        if isinstance(error, _OutputError):
            _forget_output()
            print(f"tf1xent: the output cannot be written: {error}.", file=sys.stderr)
            return CANNOT_RUN
        raise
    return code


def _stopped(number: int) -> int:
    name = signal.Signals(number).name
    said = "interrupted" if name == "SIGINT" else f"stopped by {name}"
    print(f"tf1xent: {said}.", file=sys.stderr)
    return SIGNALLED + number
