"""Measures what the library takes: tools/benchmarks COMMAND --help

    losses  time and memory of cross-entropy: tf1xent, TensorFlow, PyTorch, JAX, machine limits
    linear  memory and time of a large vocabulary's loss, beside matmul + TensorFlow's fused op
    building  time to build losses with their derivatives in a graph, beside TensorFlow's
    graphs  time and memory of inspecting and rewriting a large GraphDef
    curvature  time of products with curvature matrices, in gradients and beside torch.func
    sharded  time, bytes and rounds of a linear loss whose classes are spread over tasks
    workers  time and bytes of a Hessian-vector product over batches by worker processes
    scaling  what many tasks cost on paper, from numbers measured with few
    watching  time of a step with LossDoctorHook, and with TensorFlow's own checkers

The figures are printed as Markdown; --results FILE also puts them into a file, in the place of what
the same command line put there before; --json FILE has every figure for `python -m pyperf`.
--kernel-level forces the instructions that native kernels use; a processor without them uses the
next lower ones and says so.
"""

import argparse
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Optional, Sequence

import building
import curvature
import curvature_workers
import graphs
import linear
import losses
import pyperf
import scaling
import sharded
import watching

LEVELS = ("baseline", "avx2", "avx512")
COMMANDS = {
    "losses": losses,
    "linear": linear,
    "building": building,
    "graphs": graphs,
    "curvature": curvature,
    "sharded": sharded,
    "workers": curvature_workers,
    "scaling": scaling,
    "watching": watching,
}


def put_into(path: Path, command: str, text: str) -> None:
    """Writes a section, titled by its command, in the place of that command's last one."""
    header = f"## `{command}`\n\n"
    old = path.read_text(encoding="utf-8") if path.exists() else "# Results\n"
    sections = re.split(r"^(?=## `)", old, flags=re.M)
    places = [i for i, section in enumerate(sections) if section.startswith(header)]
    place = (places or [len(sections)])[0]
    sections[place : place + 1] = [f"{header}{text}"]
    path.write_text("\n\n".join(map(str.strip, sections)) + "\n", encoding="utf-8")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs a command."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    form = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(prog="tools/benchmarks", description=__doc__, **form)  # type: ignore
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    for name, module in COMMANDS.items():
        added = commands.add_parser(name, description=module.__doc__, **form)  # type: ignore
        module.add_options(added)  # type: ignore[attr-defined]
        added.add_argument("--json", metavar="FILE", help="also write every figure to this file")
        added.add_argument("--kernel-level", choices=LEVELS, help="the highest of native kernels")
        added.add_argument("--results", metavar="FILE", help="also put the tables into this file")
    options = parser.parse_args(arguments)
    if options.kernel_level:  # all processes inherit it
        os.environ["TF1XENT_KERNEL_LEVEL"] = options.kernel_level
    text, figures, code = COMMANDS[options.command].run(options)  # type: ignore[attr-defined]
    print(text)
    if options.json:
        pyperf.BenchmarkSuite(figures).dump(options.json, replace=True)
    if options.results:
        at = arguments.index("--results")
        kept = arguments[:at] + arguments[at + 2 :]
        command = " ".join(map(shlex.quote, ["python", "tools/benchmarks", *kept]))
        put_into(Path(options.results), command, text)
    return code


if __name__ == "__main__":
    sys.exit(main())
