"""``tf1xent doctor``."""

import argparse
import json
import sys
from typing import Any

from tf1xent.cli.checks import positive_integer
from tf1xent.cli.messages import DOES_NOT_HOLD, DONE, print_text

COMMAND = "doctor"


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        COMMAND,
        help="what this TensorFlow can and cannot do, or why it does not work, and what to do",
        description="Measures what TensorFlow computes on a few numbers, as it is and with "
        "tf1xent: second derivatives, masked classes, confident predictions, losses that are "
        "written by hand. Lists versions, settings, kernels and devices, and says what to do next. "
        "Works also where TensorFlow is missing or broken, or ends the process that imports it; "
        "then it says why. Changes nothing.",
        epilog="Exit code: 0 if TensorFlow works and every answer of tf1xent is right; 1 if "
        "TensorFlow is missing, broken or too old, or an answer of tf1xent is wrong; 2 if the "
        "arguments are wrong.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON with all numbers")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=positive_integer,
        default=300,
        help="how long TensorFlow's import and the measuring may take; default %(default)s",
    )
    parser.set_defaults(run=run, needs_tensorflow=False)


def run(options: argparse.Namespace) -> int:
    """Prints the report."""
    from tf1xent.doctor import findings, report

    found = findings.examined(options.timeout)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print_text(report.text(found), sys.stdout)
    return DONE if found["works"] else DOES_NOT_HOLD
