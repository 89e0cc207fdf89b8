"""``tf1xent verify``."""

import argparse
import sys
from typing import Any, Dict, Optional

from tf1xent._modes import DTYPES, LABEL_KINDS
from tf1xent.cli.checks import count, is_installed, positive_integer
from tf1xent.cli.messages import DOES_NOT_HOLD, DONE, print_text, refused

COMMAND = "verify"
CALLER = f"tf1xent {COMMAND}"
_SIDES = ("before", "after", "both")
_EPILOG = """\
BEFORE and AFTER are functions that build a loss of TensorFlow tensors. What a parameter is, its
name tells: logits, scores, z; probabilities, probs, y_pred; labels, targets, y; onehot_labels;
mask; weights, sample_weight; class_weights; num_classes; --input tells it for other names. Both
sides may order and name them differently. The loss is a scalar, or a tensor of losses by row.

Or they are graphs in files (.meta, .pb, .pbtxt, a SavedModel): --loss names the loss, and --input
the tensors that are fed, such as --input dense/BiasAdd=logits.

Where BEFORE computes a known formula, both are judged by its exact results; where BEFORE misses
them and AFTER does not, AFTER is not called different. Examples:

  tf1xent verify old/losses.py:masked_loss new/losses.py:masked_loss --before-python py37/bin/python
  tf1xent verify losses:loss losses:loss --patched after
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        COMMAND,
        help="do two losses have the same values, gradients and Hessian products?",
        description="Feeds two losses the same random and adversarial batches, in separate "
        "processes, and compares values, gradients and, where both have them, Hessian-vector "
        "products. Exits with 0 if AFTER computes what BEFORE does, or what it should; with 1 if "
        "not; with 2 if that cannot be told.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "before", metavar="BEFORE", help="module:function, file.py:function or PATH"
    )
    parser.add_argument("after", metavar="AFTER", help="the same")
    _add_sides(parser)
    _add_batches(parser)
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit with 1 also where BEFORE is wrong, where AFTER alone has no Hessian products, "
        "and where AFTER rounds away digits of small entries that BEFORE keeps",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(check=check, run=run, needs_tensorflow=False)


def _add_sides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--before-python",
        metavar="PATH",
        help="the Python that runs BEFORE, with its TensorFlow, 1.13 or later; it need not have "
        "tf1xent. Default: this Python",
    )
    parser.add_argument("--after-python", metavar="PATH", help="the same for AFTER")
    parser.add_argument("--loss", metavar="NAME", help="of graphs: the loss, a tensor")
    parser.add_argument(
        "--after-loss", metavar="NAME", help="where its name differs in AFTER; default: --loss"
    )
    parser.add_argument(
        "--patched", choices=_SIDES, help="call tf1xent.patch() first, on this side or on both"
    )
    parser.add_argument(
        "--compat",
        choices=_SIDES,
        help="for programs of TensorFlow 1.x on 2.x, as `tf1xent run --compat`: on this side",
    )


def _add_batches(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--labels",
        choices=LABEL_KINDS,
        default="sparse",
        help="what labels, targets and y are: numbers of classes [B], one-hot rows [B, C], "
        "distributions (soft), or 0 and 1 for each class (multi-hot); default: %(default)s",
    )
    parser.add_argument(
        "--input",
        metavar="NAME=KIND[:SHAPE]",
        action="append",
        default=[],
        help="what a parameter is, or a tensor of a graph, by one of the kinds logits, "
        "probabilities, sparse, one-hot, soft, multi-hot, mask, weights, class-weights, "
        "num-classes, or default to leave it alone; SHAPE has sizes B, T, C or numbers, as in "
        "w=weights:B,1. before.NAME or after.NAME is one side's. May be repeated",
    )
    parser.add_argument(
        "--num-classes", metavar="C", type=positive_integer, default=5, help="default %(default)s"
    )
    parser.add_argument(
        "--batch-size", metavar="B", type=positive_integer, default=6, help="default %(default)s"
    )
    parser.add_argument(
        "--time-steps", metavar="T", type=positive_integer, help="rows are [B, T] instead of [B]"
    )
    parser.add_argument(
        "--dtypes",
        metavar="DTYPE",
        nargs="+",
        choices=DTYPES,
        default=list(DTYPES),
        help="of logits, weights, ...: float64, float32; default: both",
    )
    parser.add_argument("--seed", metavar="N", type=count, default=0, help="default %(default)s")
    parser.add_argument(
        "--without",
        metavar="BATCH",
        action="append",
        default=[],
        help="a batch to leave out, by its name in the table, such as 'no rows'. May be repeated",
    )


def check(options: argparse.Namespace) -> Optional[str]:
    """Returns what is not installed, or None."""
    if not is_installed("numpy"):
        return "needs NumPy. Run: pip install numpy"
    return None


def run(options: argparse.Namespace) -> int:
    """Measures both sides and prints the report."""
    from tf1xent.verification.comparing import compare

    setting: Dict[str, Any] = dict(
        labels=options.labels,
        num_classes=options.num_classes,
        batch_size=options.batch_size,
        time_steps=options.time_steps,
        seed=options.seed,
        dtypes=options.dtypes,
        inputs=options.input,
        without=options.without,
    )
    try:
        report = compare(
            options.before,
            options.after,
            before_python=options.before_python,
            after_python=options.after_python,
            before_loss=options.loss,
            after_loss=options.after_loss or options.loss,
            patched=options.patched,
            compat=options.compat,
            strict=options.strict,
            **setting,
        )
    except (OSError, ValueError) as error:
        return refused(COMMAND, error)
    if options.json:
        print(report.to_json())
    else:
        print_text(report.to_text(), sys.stdout)
    if report.before_is_wrong:
        said = f"{CALLER}: warning: BEFORE is wrong on some batches; the report says how."
        print_text(said, sys.stderr)
    return DONE if report.equal else DOES_NOT_HOLD
