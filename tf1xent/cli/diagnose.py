"""``tf1xent diagnose``."""

import argparse
import contextlib
import json
import os
import sys
from typing import Any, Dict, List, NamedTuple, Optional

from tf1xent import errors
from tf1xent.cli.checks import is_installed
from tf1xent.cli.messages import DOES_NOT_HOLD, DONE, print_text, refused, warnings_in_a_line

COMMAND = "diagnose"
CALLER = f"tf1xent {COMMAND}"
# Modules that are needed besides TensorFlow; pip knows them by the same names.
REQUIREMENTS = ("scipy", "tqdm")
_NO_LINES = "the graph is from a file, which holds no source lines"


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        COMMAND,
        help="why a loss became inf or NaN, or does not move, from the files of a training run",
        description="Runs one step of a training again, with every tensor looked at, and names the "
        "cause of what goes wrong: the op where it begins, the row of the batch, the numbers "
        "around it, and what would cure it. Reads a folder that a hook kept (its `dump_dir`); or a "
        "graph with its checkpoint, and the batch. Needs nothing of the program that wrote them. "
        "A checkpoint from before the bad step tells most: after it, all parameters may be NaN.",
        epilog="Exit code: 0 if nothing is wrong with this step; 1 if something is; 2 if that "
        "cannot be told.",
    )
    parser.add_argument(
        "dump", metavar="FOLDER", nargs="?", help="a step that a hook kept; needs no options"
    )
    parser.add_argument(
        "--meta", metavar="PATH", help="a .meta file, or the folder of a checkpoint with one"
    )
    parser.add_argument(
        "--checkpoint", metavar="PREFIX", help="default: the one beside the .meta file"
    )
    parser.add_argument(
        "--loss", metavar="NAME", help="a scalar tensor; without it the error lists candidates"
    )
    parser.add_argument(
        "--feeds",
        metavar="NPZ",
        help="the batch: arrays by the names of placeholders, or of other tensors that can be fed, "
        "such as those that an input pipeline gives",
    )
    parser.add_argument(
        "--train-op",
        metavar="NAME",
        nargs="+",
        help="the ops that update the variables; default: all that do. Where the graph has none, "
        "gradients are built",
    )
    parser.add_argument(
        "--dump",
        metavar="DIR",
        dest="dump_dir",
        help="keep the step in a new folder in DIR, with a script that runs it again",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(check=check, run=run)


def check(options: argparse.Namespace) -> Optional[str]:
    """Returns what is not installed, or what is wrong with the options, or None."""
    missing = [name for name in REQUIREMENTS if not is_installed(name)]
    if missing:
        return f"needs {', '.join(missing)}. Run: pip install tf1xent[curvature]"
    if (options.dump is None) == (options.meta is None):
        return "needs either FOLDER, a step that a hook kept, or --meta."
    if options.dump is not None:
        for name in ("checkpoint", "loss", "feeds", "train_op"):
            if getattr(options, name) is not None:
                option = "--" + name.replace("_", "-")
                return f"{option} needs --meta: FOLDER has its own."
    return None


def run(options: argparse.Namespace) -> int:
    """Finds the cause and prints it."""
    from tf1xent import _tf
    from tf1xent._tf import tf

    try:
        with contextlib.ExitStack() as stack:
            for category in (errors.EmptyTableWarning, errors.DumpWarning):
                stack.enter_context(warnings_in_a_line(COMMAND, category))
            diagnosis, about = _diagnosed(options)
    except tf.errors.OpError as error:
        return refused(COMMAND, _tf.error_line(error))
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        return refused(COMMAND, error)
    if options.json:
        print(json.dumps({**diagnosis.to_dict(), **about}, indent=2, allow_nan=False))
    else:
        print_text(str(diagnosis), sys.stdout)
        if about["kept"]:
            print_text(f"kept in    {about['kept']}", sys.stdout)
    return DOES_NOT_HOLD if diagnosis.problem or diagnosis.findings else DONE


class _Given(NamedTuple):
    """Where a step comes from: a folder of a hook's, or options."""

    source: str
    checkpoint: Optional[str]
    loss: Optional[str]
    train_op: Optional[List[str]]
    dump: Any  # a `Dump`, or None


def _given(options: argparse.Namespace) -> _Given:
    from tf1xent.diagnostics.reports.reading import read_dump

    if options.dump is None:
        return _Given(options.meta, options.checkpoint, options.loss, options.train_op, None)
    dump = read_dump(options.dump, CALLER)
    return _Given(dump.prefix + ".meta", None, dump.loss, dump.updates or None, dump)


def _diagnosed(options: argparse.Namespace) -> Any:
    """Returns a `Diagnosis`, and what it is of."""
    from tf1xent.curvature.models.candidates import find_loss
    from tf1xent.curvature.models.loading import load_model
    from tf1xent.diagnostics.diagnosing import diagnose_alone, diagnose_step
    from tf1xent.diagnostics.reports.dumping import write_dump

    given = _given(options)
    with load_model(given.source, given.checkpoint, caller=CALLER) as model:
        loss = find_loss(model.graph, given.loss, model.variables, CALLER, model.source)
        program = _program(model, loss, given.train_op)
        step = _step(model, program, given.dump, options.feeds)
        history = None if given.dump is None else given.dump.history
        if history is None:
            diagnosis = diagnose_alone(program, step)
        else:
            diagnosis = diagnose_step(program, step, history)
        diagnosis = _with_lines(diagnosis, {} if given.dump is None else given.dump.lines)
        kept = None
        if options.dump_dir is not None:
            kept = write_dump(diagnosis, program, step, options.dump_dir, history)
        about = {
            "graph": model.source,
            "checkpoint": model.checkpoint,
            "loss": loss.name,
            "feeds": options.feeds,
            "kept": kept,
        }
        return diagnosis, about


def _with_lines(diagnosis: Any, lines: Dict[Any, Any]) -> Any:
    """Gives findings the source lines that were kept with the step; says where there are none."""
    findings = [f._replace(line=lines.get((f.cause, f.tensor))) for f in diagnosis.findings]
    if all(finding.line for finding in findings):
        return diagnosis._replace(findings=findings)
    return diagnosis._replace(findings=findings, how=f"{diagnosis.how}; {_NO_LINES}")


def _program(model: Any, loss: Any, train_op: Optional[List[str]]) -> Any:
    """Returns a `Program`; builds gradients where the graph has a loss and no optimizer."""
    from tf1xent._tf import tf
    from tf1xent.diagnostics.program.program import Program

    ops = None if train_op is None else [_op(model, name) for name in train_op]
    program = Program(model.graph, loss, ops, from_file=True)
    if program.has_optimizer:
        return program
    with model.graph.as_default():
        gradients = tf.gradients(loss, model.variables)
    found = {
        variable.op.name: getattr(gradient, "values", gradient)
        for variable, gradient in zip(model.variables, gradients)
        if gradient is not None
    }
    return Program(model.graph, loss, ops, from_file=True, gradients=found)


def _op(model: Any, name: str) -> Any:
    try:
        return model.graph.get_operation_by_name(name.split(":")[0])
    except KeyError as error:
        raise ValueError(f"{CALLER}: {model.source}: the graph has no op `{name}`.") from error


def _step(model: Any, program: Any, dump: Any, feeds: Optional[str]) -> Any:
    """Returns the `Step`."""
    from tf1xent._tf import tf
    from tf1xent.curvature.models.feed_files import named_feeds, read_arrays
    from tf1xent.diagnostics.replaying.step import Step

    values: Dict[str, Any] = model.session.run(program.variables)
    if dump is not None:
        # Local variables too, which a model's session initializes.
        reader = tf.train.NewCheckpointReader(dump.prefix)
        values = {n: reader.get_tensor(n) if reader.has_tensor(n) else values[n] for n in values}
        return Step(dump.number, dump.feeds, values, dump.value, dump.error)
    needed = [program.loss, *(u.gradient for u in program.updates if u.gradient is not None)]
    arrays = {} if feeds is None else read_arrays(os.fspath(feeds), CALLER)
    fed = named_feeds(model.graph, needed, arrays, CALLER)
    named = {tensor.name: array for tensor, array in fed.items()}
    return Step(model.step() or None, named, values)
