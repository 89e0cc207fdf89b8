"""``tf1xent status``."""

import argparse
from typing import Any

from tf1xent.cli.messages import DONE


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "status", help="what is patched, where, what this TensorFlow lacks, and the native kernels"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints two tables: of the patch and TensorFlow, and of the kernels."""
    import tf1xent

    print(tf1xent.status())
    print(tf1xent.kernels.status())
    return DONE
