"""``tf1xent rewrite``."""

import argparse
from typing import Any

from tf1xent._modes import KEEP, LOOPS, OLDER_NAMES, REWRITE_MODES
from tf1xent.cli.messages import DONE, refused, warnings_in_a_line

COMMAND = "rewrite"


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        COMMAND,
        help="give the cross-entropy ops of a saved graph their second derivatives",
        description="Reads what `inspect` reads and writes the same kind, whole or not at all. "
        "Every tensor keeps its name; checkpoints fit as before. OUT is text if IN is, unless only "
        "one of them ends like text (.pbtxt, not .pb): then OUT is what its ending says.",
    )
    parser.add_argument("input", metavar="IN")
    parser.add_argument("output", metavar="OUT")
    parser.add_argument(
        "--mode",
        default=KEEP,
        choices=(*REWRITE_MODES, *OLDER_NAMES),
        metavar="{" + ",".join(REWRITE_MODES) + "}",
        help="logsumexp: stock ops instead of the fused ones, for any runtime; tag: name the "
        "gradients that `import tf1xent` registers; untag: remove those names again; keep: only "
        "what --loops says",
    )
    parser.add_argument(
        "--loops",
        default=KEEP,
        choices=LOOPS,
        help="functional: While and If ops instead of v1 loops and branches, which can be "
        "differentiated to any order",
    )
    parser.add_argument("--force", action="store_true", help="overwrite OUT if it is there")
    parser.set_defaults(run=run, usage_error=parser.error)


def run(options: argparse.Namespace) -> int:
    """Writes the new graph."""
    if options.mode == options.loops == KEEP:
        options.usage_error("one of the arguments --mode and --loops is required")
    from tf1xent import errors
    from tf1xent.graphs import rewriting

    try:
        with warnings_in_a_line(COMMAND, errors.CleanUpWarning):
            rewriting.rewrite_path(
                options.input,
                options.output,
                options.mode,
                loops=options.loops,
                overwrite=options.force,
                caller=f"tf1xent {COMMAND}",
            )
    except FileExistsError as error:
        return refused(COMMAND, f"{error} `--force` allows it.")
    except (OSError, ValueError) as error:
        return refused(COMMAND, error)
    return DONE
