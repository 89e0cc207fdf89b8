"""The options of ``tf1xent spectrum``."""

import argparse
from typing import Optional

from tf1xent.cli.checks import count, positive_integer


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds all options."""
    _add_files(parser)
    _add_matrix(parser)
    _add_amounts(parser)
    _add_workers(parser)


def options_error(options: argparse.Namespace) -> Optional[str]:
    """Returns why the options do not go together, or None."""
    if (options.matrix == "ggn") != (options.outputs is not None):
        return "--matrix ggn and --outputs need each other."
    if options.saved_model is not None and options.checkpoint is not None:
        return "--checkpoint needs --meta: a SavedModel has its own variables."
    if options.meta is not None and options.tags is not None:
        return "--tags needs --saved-model."
    if options.feeds is None and options.batch_size is not None:
        return "--batch-size needs --feeds."
    if options.workers is None and options.worker_timeout is not None:
        return "--worker-timeout needs --workers."
    return None


def _add_files(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--meta", metavar="PATH", help="a .meta file, or the folder of a checkpoint with one"
    )
    source.add_argument(
        "--saved-model", metavar="DIR", help="a SavedModel with a graph of TensorFlow 1.x"
    )
    parser.add_argument(
        "--checkpoint", metavar="PREFIX", help="default: the one beside the .meta file"
    )
    parser.add_argument(
        "--tags", metavar="TAG", nargs="+", help="of a SavedModel's graph; default: train, or eval"
    )
    parser.add_argument(
        "--loss", metavar="NAME", help="a scalar tensor; without it the error lists candidates"
    )
    parser.add_argument(
        "--feeds",
        metavar="NPZ",
        help="arrays by the names of placeholders, or of other tensors that can be fed",
    )
    parser.add_argument(
        "--batch-size", metavar="N", type=positive_integer, help="of the feeds; default: all in one"
    )
    parser.add_argument("-o", "--output", metavar="DIR", required=True)
    parser.add_argument("--force", action="store_true", help="overwrite results in DIR")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _add_matrix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--variables",
        metavar="NAME",
        nargs="+",
        help="variables, scopes or tensors to differentiate by; default: the trainable variables",
    )
    parser.add_argument("--matrix", choices=("hessian", "ggn"), default="hessian")
    parser.add_argument(
        "--outputs",
        metavar="NAME",
        nargs="+",
        help="with --matrix ggn: the tensors of the model that the loss is computed from: logits",
    )
    parser.add_argument(
        "--reduction",
        choices=("mean", "sum"),
        default="mean",
        help="how the losses of batches make the loss of the data",
    )
    parser.add_argument(
        "--batch-weights",
        metavar="NAME",
        help="a scalar tensor that the loss of a batch divides by, such as the number of valid "
        "tokens; default: the number of examples",
    )
    parser.add_argument(
        "--batch-norm",
        choices=("frozen", "batch"),
        default="frozen",
        help="frozen: hold the mean and variance of a batch constant; batch: differentiate them",
    )


def _add_amounts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--top",
        metavar="K",
        type=positive_integer,
        default=10,
        help="eigenvalues; default %(default)s",
    )
    parser.add_argument(
        "--trace-products",
        metavar="N",
        type=count,
        default=30,
        help="products for each trace, 0 for none; default %(default)s",
    )
    parser.add_argument(
        "--density-steps",
        metavar="N",
        type=count,
        default=80,
        help="products for the density, 0 for none; default %(default)s",
    )
    parser.add_argument(
        "--layers",
        metavar="N",
        type=count,
        default=20,
        help="how many layers to measure, the largest; default %(default)s",
    )
    parser.add_argument("--seed", metavar="N", type=count, default=0, help="default %(default)s")


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        metavar="HOST:PORT,...",
        help="compute the batches on these; `tf1xent worker` starts one and prints its address",
    )
    parser.add_argument(
        "--worker-timeout",
        metavar="SECONDS",
        type=positive_integer,
        help="how long a worker may take for a batch before it goes to another; default 600",
    )
