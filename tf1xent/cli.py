"""The command ``tf1xent``, also ``python -m tf1xent``.

This module imports nothing heavy, so that the command line's own errors and help do not wait for
it: what a subcommand needs, the subcommand imports.
"""

import argparse
import importlib.util
import os
import sys
from typing import Any, List, Optional

# Module names of the extra `demo`, by the names that pip knows.
DEMO_REQUIREMENTS = {"matplotlib": "matplotlib", "scikit-learn": "sklearn", "tqdm": "tqdm"}
USAGE_ERROR = 2
FINDINGS = 1


def _output_error(output: str) -> Optional[str]:
    """Returns why nothing can be written to `output`, or None."""
    folder = os.path.dirname(os.path.abspath(output))
    if os.path.exists(output) and not os.path.isfile(output):
        return f"`--output` must be a file, got {output!r}, which is not one."
    if not os.path.isdir(folder):
        return f"`--output` must be in a folder that exists, got {output!r}."
    return None


def _demo(options: argparse.Namespace) -> int:
    missing = [
        name for name, module in DEMO_REQUIREMENTS.items() if not importlib.util.find_spec(module)
    ]
    if missing:
        names = ", ".join(missing)
        print(f"tf1xent demo: needs {names}. Run: pip install tf1xent[demo]", file=sys.stderr)
        return USAGE_ERROR
    error = _output_error(options.output)
    if error:
        print(f"tf1xent demo: {error}", file=sys.stderr)
        return USAGE_ERROR
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
    from tf1xent import graphs

    try:
        report = graphs.inspect_graph(options.path)
    except (OSError, ValueError) as error:
        return _refused("inspect", error)
    print(report.to_json() if options.json else report)
    return FINDINGS if options.check and report.needs_rewrite else 0


def _rewrite(options: argparse.Namespace) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tf1xent.graphs import rewriting

    try:
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


def _refused(command: str, error: object) -> int:
    """Says why a subcommand did nothing, in a line."""
    print(f"tf1xent {command}: {error}", file=sys.stderr)
    return USAGE_ERROR


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
        "--check",
        action="store_true",
        help="exit with 1 if override_gradients() alone would leave an op without Hessian",
    )
    inspect.set_defaults(run=_inspect)

    rewrite = commands.add_parser(
        "rewrite",
        help="give the cross-entropy ops of a saved graph their second derivatives",
        description="Reads what `inspect` reads and writes the same kind, whole or not at all. "
        "Every tensor keeps its name; checkpoints fit as before.",
    )
    rewrite.add_argument("input", metavar="IN")
    rewrite.add_argument("output", metavar="OUT")
    rewrite.add_argument(
        "--mode",
        required=True,
        choices=("logsumexp", "tag", "fused"),
        help="logsumexp: stock ops instead of the fused ones, for any runtime; tag: name the "
        "gradients that `import tf1xent` registers; fused: take those names away again",
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


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs one subcommand; returns the exit code, 2 where the command cannot run as given."""
    options = _parser().parse_args(arguments)
    return options.run(options)
