"""``tf1xent demo``."""

import argparse
import os
from typing import Any, Optional

from tf1xent.cli.checks import is_installed, positive_integer
from tf1xent.cli.messages import DONE

COMMAND = "demo"
# Module names of what the demo needs besides TensorFlow, by the names that pip knows.
REQUIREMENTS = {"matplotlib": "matplotlib", "scikit-learn": "sklearn", "tqdm": "tqdm"}


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        COMMAND,
        help="train on real images, with TensorFlow's cross-entropy and with ours",
        description="Runs an ordinary TensorFlow 1 training script on scikit-learn's digits twice, "
        "as it is and patched, and checks its Hessian. Downloads nothing; takes a minute.",
    )
    parser.add_argument(
        "--output", default="tf1xent-demo.png", metavar="PNG", help="default: ./%(default)s"
    )
    parser.add_argument(
        "--epochs", type=positive_integer, default=30, help="of training, default %(default)s"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures to this file")
    parser.set_defaults(check=check, run=run)


def check(options: argparse.Namespace) -> Optional[str]:
    """Returns what is not installed, or why the results could not be written, or None."""
    missing = [name for name, module in REQUIREMENTS.items() if not is_installed(module)]
    if missing:
        return f"needs {', '.join(missing)}. Run: pip install {' '.join(missing)}"
    error = _output_error("--output", options.output)
    if error is None and options.json is not None:
        error = _output_error("--json", options.json)
        if error is None and os.path.realpath(options.json) == os.path.realpath(options.output):
            error = "`--json` and `--output` must be two files."
    return error


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


def run(options: argparse.Namespace) -> int:
    """Runs the demo."""
    from tf1xent.demo import runner

    runner.run(options.output, epochs=options.epochs, json_path=options.json)
    return DONE
