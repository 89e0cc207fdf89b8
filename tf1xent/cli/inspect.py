"""``tf1xent inspect``."""

import argparse
import json
import sys
from typing import Any, Optional

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
        help="exit with 1 if override_gradients() alone leaves an op, or with --loss the loss, "
        "without Hessian",
    )
    parser.add_argument(
        "--loss",
        metavar="NAME",
        help="follow all paths from the variables to this tensor, and list what its second "
        "derivative meets there",
    )
    parser.add_argument(
        "--variables",
        metavar="NAME",
        nargs="+",
        action="append",
        help="with --loss: the variables or tensors to differentiate by; default: the trainable "
        "variables",
    )
    parser.set_defaults(check=check, run=run)


def check(options: argparse.Namespace) -> Optional[str]:
    """Says what is wrong with the options, or None."""
    if options.variables and options.loss is None:
        return "--variables needs --loss."
    return None


def run(options: argparse.Namespace) -> int:
    """Prints the report."""
    from tf1xent.graphs import inspecting

    if options.loss is not None:
        return _audit(options)
    try:
        report = inspecting.inspected(options.path, f"tf1xent {COMMAND}")
    except (OSError, ValueError) as error:
        return refused(COMMAND, error)
    if options.json:
        print(report.to_json())
    else:
        print_text(report.to_text(None if options.wide else COLUMNS), sys.stdout)
    return DOES_NOT_HOLD if options.fail_if_needed and report.needs_rewrite else DONE


def _audit(options: argparse.Namespace) -> int:
    """Prints an audit for each graph of the file that has the loss."""
    from tf1xent.graphs.inspecting.loss import audit_file

    variables = [name for names in options.variables or () for name in names]
    try:
        audits = audit_file(options.path, options.loss, variables, f"tf1xent {COMMAND}")
    except (OSError, ValueError) as error:
        return refused(COMMAND, error)
    if options.json:
        contents = [json.loads(audit.to_json()) for audit in audits]
        print(json.dumps(contents if len(contents) > 1 else contents[0], indent=2))
    else:
        width = None if options.wide else COLUMNS
        print_text("\n\n".join(audit.to_text(width) for audit in audits), sys.stdout)
    failed = any(audit.needs_more_than_override for audit in audits)
    return DOES_NOT_HOLD if options.fail_if_needed and failed else DONE
