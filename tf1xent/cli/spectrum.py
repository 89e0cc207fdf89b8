"""``tf1xent spectrum``."""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from typing import Any, Dict, Iterator, List, Optional

from tf1xent import errors
from tf1xent.cli.checks import is_installed
from tf1xent.cli.messages import DONE, print_text, refused, warnings_in_a_line
from tf1xent.cli.spectrum_options import add_options, options_error

COMMAND = "spectrum"
CALLER = f"tf1xent {COMMAND}"
# Modules that are needed besides TensorFlow; pip knows them by the same names.
REQUIREMENTS = ("matplotlib", "scipy", "tqdm")
JSON_NAME, PICTURE_NAME = "spectrum.json", "spectrum.png"
EVENTS = "events.out.tfevents."
# Of the products; they stay until the results are written.
LOG_ENDING = ".products"


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        COMMAND,
        help="the curvature of a trained model's loss, from its files alone",
        description="Measures the Hessian (or Gauss-Newton matrix) of a loss in the trained "
        "variables: its largest eigenvalues, trace and density, also by layer. Reads a graph with "
        "its checkpoint, and data; needs nothing of the program that wrote them. Writes "
        f"{JSON_NAME}, {PICTURE_NAME} and an event file for TensorBoard into DIR, whole or not at "
        "all. A run that was killed, or has lost all its workers, goes on where it was, when it is "
        "started again.",
    )
    add_options(parser)
    parser.set_defaults(check=check, run=run)


def check(options: argparse.Namespace) -> Optional[str]:
    """Returns what is not installed, or what is wrong with the options, or None."""
    missing = [name for name in REQUIREMENTS if not is_installed(name)]
    if missing:
        return f"needs {', '.join(missing)}. Run: pip install tf1xent[curvature]"
    return options_error(options)


def run(options: argparse.Namespace) -> int:
    """Measures and writes."""
    from tf1xent import _tf
    from tf1xent._tf import tf

    try:
        with warnings_in_a_line(COMMAND, errors.EmptyTableWarning):
            folder = _checked_folder(options)
            with _prepared(folder):
                report = _measured(options, folder)
                _write(report, folder, options)
    except FileExistsError as error:
        return refused(COMMAND, f"{error} `--force` allows it.")
    except tf.errors.OpError as error:
        return refused(COMMAND, _tf.error_line(error))
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        return refused(COMMAND, error)
    if options.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        print_text(report.to_text(), sys.stdout)
    return DONE


def _checked_folder(options: argparse.Namespace) -> str:
    """Returns where to write; FileExistsError if results are there and must not be overwritten."""
    folder = os.path.realpath(options.output)
    if os.path.lexists(options.output) and not os.path.isdir(folder):
        raise ValueError(f"{CALLER}: {options.output} must be a folder, got a file.")
    if not os.path.isdir(os.path.dirname(folder)):
        raise FileNotFoundError(
            f"{CALLER}: {os.path.dirname(folder)}, the folder to write in, does not exist."
        )
    results = os.path.join(folder, JSON_NAME)
    if os.path.lexists(results) and not options.force:
        raise FileExistsError(f"{CALLER}: {results} exists already.")
    return folder


@contextlib.contextmanager
def _prepared(folder: str) -> Iterator[None]:
    """Makes the folder, and removes what was made since if there is an error.

    But a signal, and workers that are lost, leave the products: a later run goes on from them.
    """
    from tf1xent._tf import tf

    of_workers = (
        tf.errors.AbortedError,
        tf.errors.DeadlineExceededError,
        tf.errors.UnavailableError,
    )
    is_new = not os.path.isdir(folder)
    os.makedirs(folder, exist_ok=True)
    before = _logs(folder)
    try:
        yield
    except of_workers:
        raise
    except Exception:
        with contextlib.suppress(OSError):
            for log in set(_logs(folder)) - set(before):
                os.remove(log)
            if is_new:
                os.rmdir(folder)
        raise


def _logs(folder: str) -> List[str]:
    return [os.path.join(folder, n) for n in sorted(os.listdir(folder)) if n.endswith(LOG_ENDING)]


def _measured(options: argparse.Namespace, folder: str) -> Any:
    """Opens the model and measures; returns a `SpectrumReport`."""
    from tf1xent.curvature.models.candidates import find_loss, reached_variables
    from tf1xent.curvature.models.feed_files import feed_batches, read_arrays
    from tf1xent.curvature.models.loading import load_model
    from tf1xent.curvature.reports.spectrum_report import decided_statistics, measure_spectrum

    source = options.saved_model if options.meta is None else options.meta
    with load_model(source, options.checkpoint, tags=options.tags, caller=CALLER) as model:
        xs = model.find_variables(options.variables, CALLER)
        loss = find_loss(model.graph, options.loss, xs, CALLER, model.source)
        outputs = [model.find_tensor(name, CALLER) for name in options.outputs or ()]
        if outputs:
            reached_variables([loss], outputs, model.source, CALLER)
        xs, left_out = reached_variables(outputs or [loss], xs, model.source, CALLER)
        fetched = [loss, *outputs]
        weights = options.batch_weights and model.find_tensor(options.batch_weights, CALLER)
        if weights is not None:
            fetched.append(weights)
        arrays = {} if options.feeds is None else read_arrays(options.feeds, CALLER)
        data = feed_batches(model.graph, fetched, arrays, options.batch_size, caller=CALLER)
        operator = _operator(options, folder, model.session, loss, outputs, xs, data, weights)
        layers = _layers(operator, options.layers, folder)
        _check_repeats(model.session, loss, data.feeds[0])
        about = _about(options, model, loss, operator, data)
        about["batch_normalization"] = decided_statistics(
            operator.batch_norm_statistics, model.session, data.feeds[0]
        )
        about["left_out"] = [x.name for x in left_out]
        return measure_spectrum(
            operator,
            layers,
            top=options.top,
            trace_products=options.trace_products,
            density_steps=options.density_steps,
            seed=options.seed,
            about=about,
        )


def _about(
    options: argparse.Namespace, model: Any, loss: Any, operator: Any, data: Any
) -> Dict[str, Any]:
    """Says what is measured."""
    parameters = operator.parameters
    return {
        "graph": model.source,
        "checkpoint": model.checkpoint,
        "step": model.step(),
        "loss": loss.name,
        "value": operator.loss(),
        "matrix": options.matrix,
        "outputs": options.outputs,
        "parameters": parameters.size,
        "variables": dict(zip(parameters.names, parameters.shapes)),
        "feeds": options.feeds,
        "examples": sum(data.sizes),
        "batches": len(data.sizes),
        "reduction": options.reduction,
        "batch_weights": options.batch_weights,
        "seed": options.seed,
    }


def _operator(
    options: argparse.Namespace,
    folder: str,
    session: Any,
    loss: Any,
    outputs: List[Any],
    xs: List[Any],
    data: Any,
    weights: Any,
) -> Any:
    from tf1xent.curvature import GGNOperator, HessianOperator
    from tf1xent.curvature.workers.targets import targets_of

    if weights is None and options.reduction == "mean":
        weights = data.sizes
    named: Dict[str, Any] = {
        "batch_weights": weights,
        "reduction": options.reduction,
        "batch_norm": options.batch_norm,
        "log": os.path.join(folder, options.matrix + LOG_ENDING),
    }
    if options.workers is not None:
        named["workers"] = targets_of(CALLER, options.workers.split(","))
    if options.worker_timeout is not None:
        named["worker_timeout"] = options.worker_timeout
    if outputs:
        return GGNOperator(session, loss, outputs, xs, data.feeds, **named)
    return HessianOperator(session, loss, xs, data.feeds, **named)


def _layers(operator: Any, most: int, folder: str) -> Dict[str, Any]:
    """Returns the operators of the largest layers; all ops are built before anything runs."""
    parameters = operator.parameters
    sizes = dict(zip(parameters.names, parameters.sizes))
    layers = parameters.layers()
    if len(layers) < 2:
        return {}
    by_size = sorted(layers, key=lambda name: -sum(sizes[v] for v in layers[name]))
    found = {}
    for number, name in enumerate(layers):
        if name in by_size[:most]:
            log = os.path.join(folder, f"layer-{number}{LOG_ENDING}")
            found[name] = operator.submatrix(layers[name], log=log)
    return found


def _check_repeats(session: Any, loss: Any, feed: Any) -> None:
    """ValueError for a loss that is another one each time, as with dropout."""
    first, second = (float(session.run(loss, feed)) for _ in range(2))
    # Sums of several threads may differ in their last bits.
    if abs(first - second) > 1e-4 * abs(first):
        raise ValueError(
            f"{CALLER}: `{loss.name}` must be the same each time, got {first:.6g} and "
            f"{second:.6g}: it draws random numbers. Feed what switches its dropout off, or take "
            "the graph of an evaluation."
        )


def _write(report: Any, folder: str, options: argparse.Namespace) -> None:
    """Writes the results, each whole, the JSON last; then the products are not needed any more."""
    from tf1xent.curvature.reports.events import write_events
    from tf1xent.curvature.reports.plotting import plot_spectrum
    from tf1xent.graphs.rewriting.writing import write_file

    with tempfile.TemporaryDirectory() as temporary:
        events = write_events(
            temporary,
            report.about["step"],
            eigenvalues=report.eigenvalues,
            trace=report.trace,
            density=report.density,
        )
        picture = os.path.join(temporary, PICTURE_NAME)
        title = f"{options.matrix} of {report.about['loss']}"
        if report.density is None:
            plot_spectrum(report.eigenvalues, picture, title=title)
        else:
            plot_spectrum(report.density, picture, eigenvalues=report.eigenvalues, title=title)
        contents = {}
        for path in (events, picture):
            with open(path, "rb") as file:
                contents[os.path.basename(path)] = file.read()
    old = _old_events(folder)
    found = dict(report.to_dict(), events=os.path.basename(events))
    contents[JSON_NAME] = (json.dumps(found, indent=2) + "\n").encode("utf-8")
    for name, content in contents.items():
        write_file(content, os.path.join(folder, name), source=report.about["graph"])
    for path in (*old, *_logs(folder)):
        os.remove(path)


def _old_events(folder: str) -> List[str]:
    """Returns the event file that results which are about to be overwritten name."""
    try:
        with open(os.path.join(folder, JSON_NAME), encoding="utf-8") as file:
            name = os.path.basename(str(json.load(file)["events"]))
    except (OSError, ValueError, KeyError, TypeError):
        return []
    path = os.path.join(folder, name)
    return [path] if name.startswith(EVENTS) and os.path.isfile(path) else []
