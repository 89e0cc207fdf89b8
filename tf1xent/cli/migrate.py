"""``tf1xent migrate``."""

import argparse
import contextlib
import json
import os
import sys
from typing import Any, FrozenSet, List, Optional

from tf1xent._modes import TARGETS, TF1XENT
from tf1xent.cli.checks import is_installed, positive_integer
from tf1xent.cli.messages import DOES_NOT_HOLD, DONE, print_bytes, print_text, refused

COMMAND = "migrate"
# Modules that are needed; pip knows them by the same names.
REQUIREMENTS = ("libcst", "tqdm")
STANDARD_INPUT = "-"
# Instead of a path: the same as --list-rules.
LIST_RULES = "list-rules"
# What codes of rules are given for.
CODE_OPTIONS = {
    "--fix": "rewrite what this rule else only reports, though it changes the training",
    "--only": "ask this rule, and no others than --only names",
    "--ignore": "do not ask this rule",
}

DESCRIPTION = """\
Looks for calls of TensorFlow's cross-entropy functions, and for hand-written cross-entropies, in
modules and notebooks. What computes the same is rewritten; what changes the training is reported.
Prints `path:line:column: CODE message` for each place, and a unified diff. Writes nothing without
--write. Never imports or runs the code that it reads.
"""
EPILOG = """\
In a notebook a place is `path:cell N:line:column`, where N counts all its cells from 1.

comments that keep the rules from a place:
  x = f(y)  # tf1xent: skip    this statement
  # tf1xent: skip              on a line of its own: the next statement with its block
  # tf1xent: skip-file         the whole file
  # tf1xent: skip=TX101,TX201  each of them also for some rules only

exit codes:
  0  done
  1  a file would change, with --check; or a file was left out: it is no Python 3, or it cannot be
     read or written
  2  wrong arguments, or libcst is not installed; nothing is written
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        COMMAND,
        help="rewrite the cross-entropies of TF1 source code to exact ones",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        help="a file, or a folder with .py and .ipynb files (hidden folders, environments and "
        "site-packages are left out); - reads stdin and writes stdout",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--write", action="store_true", help="write the files, each whole or not")
    mode.add_argument(
        "--check", action="store_true", dest="only_check", help="no diff; 1 if a file would change"
    )
    _add_rules(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text and diff")
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=positive_integer,
        help="processes to use; default: one for each processor",
    )
    parser.set_defaults(check=check, run=run, needs_tensorflow=False)


def _add_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--to",
        choices=TARGETS,
        default=TF1XENT,
        dest="target",
        help="tf1xent: calls of this library's functions (default); stock: the best form that "
        "TensorFlow's own compat.v1 has",
    )
    for option, text in CODE_OPTIONS.items():
        parser.add_argument(
            option, metavar="CODE", action="append", default=[], help=text + "; repeatable"
        )
    parser.add_argument(
        "--list-rules", action="store_true", help="print the rules, each with a before and after"
    )


def check(options: argparse.Namespace) -> Optional[str]:
    """Says what is wrong with the options, or None."""
    if options.paths == [LIST_RULES] and not os.path.exists(LIST_RULES):
        options.list_rules = True
    missing = [name for name in REQUIREMENTS if not is_installed(name)]
    if missing:
        return f'needs {", ".join(missing)}. Run: pip install "tf1xent[migrate]"'
    if not options.paths and not options.list_rules:
        return "needs a PATH, or --list-rules."
    if STANDARD_INPUT in options.paths and (len(options.paths) > 1 or options.write):
        return "- is read from stdin and written to stdout; it needs no other PATH and no --write."
    return None


def run(options: argparse.Namespace) -> int:
    """Prints the rules, or moves the files."""
    try:
        from tf1xent.migrate import report
        from tf1xent.migrate.rules import RULES
    except ImportError as error:
        return refused(COMMAND, f"libcst cannot be imported: {error}.")
    known = sorted(rule.code for rule in RULES)
    for option in CODE_OPTIONS:
        unknown = sorted(set(getattr(options, option[2:])) - set(known))
        if unknown:
            said = f"`{option}` must be the code of a rule, got {unknown[0]!r}."
            return refused(COMMAND, f"{said} The rules are {', '.join(known)}.")
    codes = frozenset(options.only or known) - frozenset(options.ignore)
    if options.list_rules:
        rules = [rule for rule in RULES if rule.code in codes]
        if options.json:
            print(json.dumps(report.rules_json(rules), indent=2))
        else:
            print_text(report.rules_text(rules), sys.stdout)
        return DONE
    return _migrate(options, codes)


def _migrate(options: argparse.Namespace, codes: FrozenSet[str]) -> int:
    from tf1xent.migrate import Options
    from tf1xent.migrate.files import find_files, migrate_files, processors

    asked = Options(options.target, frozenset(options.fix), codes)
    if options.paths == [STANDARD_INPUT]:
        return _migrate_standard_input(options, asked)
    try:
        files, outcomes = find_files(options.paths)
    except OSError as error:
        return refused(COMMAND, error)
    for outcome in outcomes:
        _show(options, outcome)
    found = migrate_files(files, asked, options.jobs or processors())
    with contextlib.closing(found), _progress(len(files)) as bar:  # type: ignore[type-var]
        for outcome in found:
            if options.write and outcome.changes:
                outcome = _written(outcome)
            if outcome.findings or outcome.fault is not None:
                with bar.external_write_mode(sys.stdout):
                    _show(options, outcome)
            # Until the end it is kept without the contents.
            kept = b"" if outcome.changes else None
            outcomes.append(outcome._replace(before=None, after=kept))
            bar.update()
    return _end(options, outcomes)


def _migrate_standard_input(options: argparse.Namespace, asked: Any) -> int:
    """Moves one module; its findings go to stderr, since stdout has the module."""
    from tf1xent.migrate.files import migrate_bytes

    content = sys.stdin.buffer.read()
    outcome = migrate_bytes(STANDARD_INPUT, content, asked)
    is_filter = not (options.only_check or options.json)
    _show(options, outcome, sys.stderr if is_filter else sys.stdout)
    if is_filter and outcome.fault is None:
        print_bytes(content if outcome.after is None else outcome.after)
    return _end(options, [outcome])


def _progress(total: int) -> Any:
    from tqdm import tqdm

    class Bar(tqdm):
        """A bar without a thread of its own, since processes are forked."""

        monitor_interval = 0

    return Bar(total=total, desc=COMMAND, unit="file", disable=None)


def _written(outcome: Any) -> Any:
    from tf1xent.migrate.source import Fault
    from tf1xent.migrate.writing import replace_content

    try:
        replace_content(outcome.path, outcome.before, outcome.after)
    except Fault as fault:
        return outcome._replace(before=None, after=None, fault=fault)
    return outcome


def _show(options: argparse.Namespace, outcome: Any, stream: Any = None) -> None:
    """Prints the findings of a file, and the diff if it is asked for; or why it is left out."""
    from tf1xent.migrate import report

    if outcome.fault is not None:
        refused(COMMAND, report.fault_line(outcome.path, outcome.fault))
    if options.json:
        return
    for located in outcome.findings:
        print_text(report.finding_line(outcome.path, located), stream or sys.stdout)
    shows_diff = not (options.write or options.only_check or stream)
    if shows_diff and outcome.changes:
        print_bytes(report.unified_diff(outcome.path, outcome.before, outcome.after))


def _end(options: argparse.Namespace, outcomes: List[Any]) -> int:
    """Prints the summary, and JSON if it is asked for; returns the exit code."""
    from tf1xent.migrate import report

    if options.json:
        print(json.dumps(report.as_json(outcomes), indent=2))
    print_text(f"tf1xent {COMMAND}: {report.summary(outcomes, options.write)}", sys.stderr)
    would_change = any(outcome.changes for outcome in outcomes)
    left_out = any(outcome.fault is not None for outcome in outcomes)
    return DOES_NOT_HOLD if left_out or (options.only_check and would_change) else DONE
