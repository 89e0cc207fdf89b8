"""Loops and branches inside one another."""

from tf1xent.errors import RewriteError
from tf1xent.graphs.loops.bodies import Functions
from tf1xent.graphs.loops.branches import replace_branches
from tf1xent.graphs.loops.net import Net, NotUnderstoodError
from tf1xent.graphs.loops.whiles import replace_loops


def make_functional(net: Net, functions: Functions) -> None:
    """Makes all loops and branches of a net functional, or raises NotUnderstoodError."""
    replace_loops(net, functions, lambda part: make_functional(part, functions))
    replace_branches(net, functions, _refuse)
    net.order()  # raises for a cycle


def _refuse(merge: str, error: RewriteError) -> None:
    raise NotUnderstoodError(f"branch `{merge}`: {error}")
