"""``tf1xent inspect``."""

import argparse
import sys
from typing import Any

from tf1xent.cli.messages import DOES_NOT_HOLD, DONE, print_text, refused

COMMAND = "inspect"
# Of a line of the table, without --wide.
COLUMNS = 80


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        COMMAND,
        help="the cross-entropy ops of a saved graph, and what their second derivatives lack",
        description="Lists the cross-entropy ops of a GraphDef (.pb, .pbtxt), a .meta file, a "
        "checkpoint that has one, or a SavedModel. Runs nothing of what the file holds.",
    )
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--wide",
        action="store_true",
        help=f"shorten no name, and break no line after {COLUMNS} columns",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        dest="fail_if_needed",
        help="exit with 1 if override_gradients() alone would leave an op without Hessian",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the report."""
    from tf1xent.graphs import inspecting

    try:
        report = inspecting.inspected(options.path, f"tf1xent {COMMAND}")
    except (OSError, ValueError) as error:
        return refused(COMMAND, error)
    if options.json:
        print(report.to_json())
    else:
        print_text(report.to_text(None if options.wide else COLUMNS), sys.stdout)
    return DOES_NOT_HOLD if options.fail_if_needed and report.needs_rewrite else DONE
