"""``tf1xent build-kernels``."""

import argparse
from typing import Any

from tf1xent.cli.messages import DONE, refused

COMMAND = "build-kernels"


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        COMMAND,
        help="compile the native kernels for this TensorFlow",
        description="Compiles the native kernels against the TensorFlow that is installed, tests "
        "them, and keeps them in the folder TF1XENT_KERNEL_CACHE, by default in the user's cache. "
        "Takes a minute and a C++ compiler. Does nothing if they are already there.",
    )
    parser.add_argument("--force", action="store_true", help="build also if they are there")
    parser.add_argument(
        "--compiler", metavar="COMMAND", help="default: $CXX, else g++, clang++ or c++"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Builds the kernels."""
    from tf1xent import errors, kernels

    try:
        kernels.build(force=options.force, compiler=options.compiler)
    except errors.KernelsError as error:
        return refused(COMMAND, error)
    return DONE
