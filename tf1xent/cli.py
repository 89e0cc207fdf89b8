"""The command ``tf1xent``, also ``python -m tf1xent``.

This module imports nothing heavy, so that the command line's own errors and help do not wait for
it: what a subcommand needs, the subcommand imports.
"""

import argparse
import contextlib
import importlib.util
import os
import signal
import sys
import threading
import warnings
from typing import Any, Iterator, List, Optional

from tf1xent import _modes

# Module names of the extra `demo`, by the names that pip knows.
DEMO_REQUIREMENTS = {"matplotlib": "matplotlib", "scikit-learn": "sklearn", "tqdm": "tqdm"}
USAGE_ERROR = 2
FINDINGS = 1
# Added to a signal's number, as shells do.
SIGNALLED = 128


def _output_error(option: str, path: str) -> Optional[str]:
    """Returns why nothing can be written to the file that an option names, or None."""
    real = os.path.realpath(path)
    if not path or (os.path.exists(real) and not os.path.isfile(real)):
        return f"`{option}` must be a file, got {path!r}, which is not one."
    if not os.path.isdir(os.path.dirname(real)):
        return f"`{option}` must be in a folder that exists, got {path!r}."
    is_new = not os.path.exists(real)
    try:
        with open(real, "ab"):  # only the system knows all that it may forbid
            pass
        if is_new:
            os.remove(real)
    except OSError as error:
        return f"`{option}` must be a file that can be written, got {path!r}: {error.strerror}."
    return None


def _demo_error(options: argparse.Namespace) -> Optional[str]:
    """Returns why the demo could not write what it finds, or None."""
    error = _output_error("--output", options.output)
    if error is None and options.json is not None:
        error = _output_error("--json", options.json)
        if error is None and os.path.realpath(options.json) == os.path.realpath(options.output):
            error = "`--json` and `--output` must be two files."
    return error


def _demo(options: argparse.Namespace) -> int:
    missing = [
        name for name, module in DEMO_REQUIREMENTS.items() if not importlib.util.find_spec(module)
    ]
    if missing:
        names = ", ".join(missing)
        return _refused("demo", f"needs {names}. Run: pip install tf1xent[demo]")
    error = _demo_error(options)
    if error:
        return _refused("demo", error)
    # What TensorFlow's C++ side says about processors would bury what the demo says.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tf1xent.demo import runner

    runner.run(options.output, epochs=options.epochs, json_path=options.json)
    return 0


def _status(options: argparse.Namespace) -> int:
    import tf1xent
    from tf1xent import kernels

    print(tf1xent.status())
    print(kernels.status())
    return 0


def _build_kernels(options: argparse.Namespace) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tf1xent import errors, kernels

    try:
        kernels.build(force=options.force, compiler=options.compiler)
    except errors.KernelsError as error:
        return _refused("build-kernels", error)
    return 0


def _inspect(options: argparse.Namespace) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tf1xent.graphs import inspecting

    try:
        report = inspecting.inspected(options.path, "tf1xent inspect")
    except (OSError, ValueError) as error:
        return _refused("inspect", error)
    if options.json:
        print(report.to_json())
    else:
        _print(report.to_text(None if options.wide else 80), sys.stdout)
    return FINDINGS if options.check and report.needs_rewrite else 0


def _rewrite(options: argparse.Namespace) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tf1xent import errors
    from tf1xent.graphs import rewriting

    try:
        with _in_a_line("rewrite", errors.CleanUpWarning):
            rewriting.rewrite_path(
                options.input,
                options.output,
                options.mode,
                overwrite=options.force,
                caller="tf1xent rewrite",
            )
    except FileExistsError as error:
        return _refused("rewrite", f"{error} `--force` allows it.")
    except (OSError, ValueError) as error:
        return _refused("rewrite", error)
    return 0


@contextlib.contextmanager
def _in_a_line(command: str, category: Any) -> Iterator[None]:
    """Says warnings of a category in a line each; others as ever."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message, shown, *rest):
            if issubclass(shown, category):
                _print(f"tf1xent {command}: warning: {message}", sys.stderr)
            else:
                others(message, shown, *rest)

        warnings.showwarning = show
        warnings.simplefilter("always", category)
        yield


def _refused(command: str, error: object) -> int:
    """Says why a subcommand did nothing, in a line."""
    text, prefix = str(error), f"tf1xent {command}: "
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}."
    _print(text if text.startswith(prefix) else prefix + text, sys.stderr)
    return USAGE_ERROR


def _print(text: str, stream: Any) -> None:
    """Prints what may hold file names that are no text, which a stream would refuse."""
    if stream is not None:
        encoding = stream.encoding or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def _version() -> str:
    import tf1xent

    return f"tf1xent {tf1xent.__version__}"


def _positive_integer(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _add_graph_commands(commands: Any) -> None:
    inspect = commands.add_parser(
        "inspect",
        help="the cross-entropy ops of a saved graph, and what their second derivatives lack",
        description="Lists the cross-entropy ops of a GraphDef (.pb, .pbtxt), a .meta file, a "
        "checkpoint that has one, or a SavedModel. Runs nothing of what the file holds.",
    )
    inspect.add_argument("path", metavar="PATH")
    inspect.add_argument("--json", action="store_true", help="print JSON instead of a table")
    inspect.add_argument(
        "--wide", action="store_true", help="shorten no name, and break no line after 80 columns"
    )
    inspect.add_argument(
        "--check",
        action="store_true",
        help="exit with 1 if override_gradients() alone would leave an op without Hessian",
    )
    inspect.set_defaults(run=_inspect)

    rewrite = commands.add_parser(
        "rewrite",
        help="give the cross-entropy ops of a saved graph their second derivatives",
        description="Reads what `inspect` reads and writes the same kind, whole or not at all. "
        "Every tensor keeps its name; checkpoints fit as before. Text stays text, and becomes or "
        "leaves it where the endings of IN and OUT say so, like .pb and .pbtxt.",
    )
    rewrite.add_argument("input", metavar="IN")
    rewrite.add_argument("output", metavar="OUT")
    rewrite.add_argument(
        "--mode",
        required=True,
        choices=(*_modes.REWRITE_MODES, *_modes.OLDER_NAMES),
        help="logsumexp: stock ops instead of the fused ones, for any runtime; tag: name the "
        "gradients that `import tf1xent` registers; untag: take those names away again "
        "(older name: fused)",
    )
    rewrite.add_argument("--force", action="store_true", help="overwrite OUT if it is there")
    rewrite.set_defaults(run=_rewrite)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tf1xent", description="Exact cross-entropy for TensorFlow graphs."
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser(
        "demo",
        help="train on real images, with TensorFlow's cross-entropy and with ours",
        description="Runs an ordinary TensorFlow 1 training script on scikit-learn's digits twice, "
        "as it is and patched, and checks its Hessian. Downloads nothing; takes a minute.",
    )
    demo.add_argument(
        "--output", default="tf1xent-demo.png", metavar="PNG", help="default: ./%(default)s"
    )
    demo.add_argument(
        "--epochs", type=_positive_integer, default=30, help="of training, default %(default)s"
    )
    demo.add_argument("--json", metavar="FILE", help="also write the figures to this file")
    demo.set_defaults(run=_demo)

    _add_graph_commands(commands)
    build_kernels = commands.add_parser(
        "build-kernels",
        help="compile the native kernels for this TensorFlow",
        description="Compiles the native kernels against the TensorFlow that is installed, tests "
        "them, and keeps them in the folder TF1XENT_KERNEL_CACHE, by default in the user's cache. "
        "Takes a minute and a C++ compiler; does nothing where they are there already.",
    )
    build_kernels.add_argument("--force", action="store_true", help="build also if they are there")
    build_kernels.add_argument(
        "--compiler", metavar="COMMAND", help="default: $CXX, else g++, clang++ or c++"
    )
    build_kernels.set_defaults(run=_build_kernels)

    status = commands.add_parser(
        "status", help="what is patched, where, what this TensorFlow lacks, and the native kernels"
    )
    status.set_defaults(run=_status)
    return parser


class _Stopped(BaseException):
    """A signal asks the process to end; not an Exception, so that nothing takes it for an error."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP raise, so that what a command put aside is cleaned up."""
    numbers = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]

    def stop(number, frame):
        raise _Stopped(number)

    replaced = []
    if threading.current_thread() is threading.main_thread():
        # Not where somebody else, like nohup, has decided already.
        replaced = [n for n in numbers if n and signal.getsignal(n) is signal.SIG_DFL]
    for number in replaced:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, signal.SIG_DFL)


class _OutputError(Exception):
    """What a command printed does not arrive, though somebody wants it."""


def _run(arguments: Optional[List[str]]) -> int:
    """Runs one subcommand, and sees that what it printed arrives."""
    try:
        options = _parser().parse_args(arguments)
        return options.run(options)
    finally:
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _OutputError(error.strerror) from error


def _forget_output() -> None:
    """Lets Python end without a complaint about output that nobody takes."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs one subcommand; returns the exit code, 2 where the command cannot run as given.

    It is 128 and the signal's number where a signal or a closed pipe ends the command.
    """
    try:
        with _stopping():
            return _run(arguments)
    except KeyboardInterrupt:
        print("tf1xent: interrupted.", file=sys.stderr)
        return SIGNALLED + signal.SIGINT
    except _Stopped as stopped:
        print(f"tf1xent: stopped by {signal.Signals(stopped.number).name}.", file=sys.stderr)
        return SIGNALLED + stopped.number
    except BrokenPipeError:
        _forget_output()
        return SIGNALLED + getattr(signal, "SIGPIPE", 13)
    except _OutputError as error:
        _forget_output()
        print(f"tf1xent: the output cannot be written: {error}.", file=sys.stderr)
        return USAGE_ERROR
