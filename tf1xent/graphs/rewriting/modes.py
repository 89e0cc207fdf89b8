"""The rewrite modes, one row each, and the rewrite of a whole GraphDef."""

import functools
from typing import Callable, Collection, Dict, Iterable, List, NamedTuple, Optional, Set

from tf1xent._modes import FUNCTIONAL, KEEP, LOOPS, OLDER_NAMES
from tf1xent.graphs.functions import Body, Library
from tf1xent.graphs.loops import make_graph_functional
from tf1xent.graphs.raw import Graph, check_is_readable
from tf1xent.graphs.rewriting.inlining import Inliner
from tf1xent.graphs.rewriting.replacement import Added, replace_ops
from tf1xent.graphs.rewriting.tagging import tag_ops, untag_graph
from tf1xent.graphs.shapes import forget_shapes, missed_broadcasts
from tf1xent.graphs.wiring import Wiring, split_reference

# Rewrites the nodes of a graph or of a function body, whose results are given as references.
RewriteNodes = Callable[[Wiring, List[str]], Added]


class Mode(NamedTuple):
    """A rewrite mode.

    Attributes:
      rewrite: rewrites (graph, its library, its wiring, names of the nodes to report) in place.
      removes_kernel_ops: whether no op of the native library is left.
    """

    rewrite: Callable[[Graph, Library, Wiring, Iterable[str]], Added]
    removes_kernel_ops: bool = False


class Request(NamedTuple):
    """What a rewrite does.

    Attributes:
      mode: a key of MODES.
      loops: what becomes of v1 loops and branches, "keep" or "functional".
    """

    mode: str
    loops: str = KEEP


class Rewritten(NamedTuple):
    """A GraphDef after a rewrite.

    Attributes:
      content: the GraphDef, serialized.
      added: the tensors added for each of the nodes asked for that was rewritten.
      op_types: by node, where loops and branches may have become functional; None elsewhere.
    """

    content: bytes
    added: Added
    op_types: Optional[Dict[str, str]]


def _inline_and_rewrite(
    rewrite_nodes: RewriteNodes, graph: Graph, library: Library, main: Wiring, wanted: Iterable[str]
) -> Added:
    """Inlines the calls that lead to cross-entropy ops, then rewrites the nodes.

    All calls are inlined first: a guard and the op that it guards may be on different sides of a
    call.
    """
    inliner = Inliner(library)
    for name in inliner.holding:
        body = Body(library.functions[name], library)
        inliner.inline(body.wiring())
        inliner.add(body)
    added = inliner.inline(main)
    if added:
        main = Wiring(graph.nodes, main.where)
    misled: Set[str] = set()
    for body in inliner.bodies.values():
        if _forget_wrong_shapes(body.wiring(), library, misled):
            misled.add(body.name)
    _forget_wrong_shapes(main, library, misled)
    wanted = {name for name in wanted if name in main.positions}
    for call in wanted.intersection(added):
        wanted.update(split_reference(tensor)[0] for tensor in added[call])
    added.update(rewrite_nodes(main, []))
    for body in inliner.bodies.values():
        rewrite_nodes(body.wiring(), body.results)
        body.put_into(library.functions[body.name], library)
    return {name: added[name] for name in added if name in wanted}


def _forget_wrong_shapes(wiring: Wiring, library: Library, misled: Set[str]) -> bool:
    """Removes the recorded shapes that a missed broadcast made wrong; returns whether there is one.

    `misled` are the functions that hold a missed broadcast: what calls them has wrong shapes too.
    """
    positions = missed_broadcasts(wiring)
    if misled:
        positions += [p for p, names in library.callers(wiring) if misled.intersection(names)]
    forget_shapes(wiring, positions)
    return bool(positions)


# By name, in the order of `tf1xent._modes.REWRITE_MODES`.
MODES: Dict[str, Mode] = {
    # Replaces cross-entropy ops by stock ops.
    "logsumexp": Mode(functools.partial(_inline_and_rewrite, replace_ops), removes_kernel_ops=True),
    # Keeps the ops and writes the names of tf1xent's gradients into them.
    "tag": Mode(functools.partial(_inline_and_rewrite, tag_ops)),
    # Removes these names.
    "untag": Mode(untag_graph),
    # Leaves the cross-entropy ops as they are.
    KEEP: Mode(lambda graph, library, main, wanted: {}),
}


def checked(mode: str, loops: str, caller: str) -> Request:
    """Returns what a rewrite does; ValueError for an unknown mode."""
    name = OLDER_NAMES.get(mode, mode) if isinstance(mode, str) else None
    if name not in MODES:
        raise ValueError(f"{caller}: `mode` must be one of {', '.join(MODES)}, got {mode!r}.")
    if loops not in LOOPS:
        raise ValueError(f"{caller}: `loops` must be one of {', '.join(LOOPS)}, got {loops!r}.")
    return Request(name, loops)


def rewritten(
    content: bytes,
    request: Request,
    where: str,
    wanted: Iterable[str] = (),
    kept: Collection[str] = (),
) -> Rewritten:
    """Rewrites the bytes of a GraphDef, with its function library.

    Args:
      content: the GraphDef, serialized.
      request: what to do.
      where: the graph, as errors name it.
      wanted: names of nodes, for which to say what is added.
      kept: names of nodes that must stay, in loops and branches too.
    """
    graph = Graph(content, where)
    check_is_readable(graph.rest, where)
    library = Library(graph.rest.library, where)
    main = Wiring(graph.nodes, where)  # also checks the nodes' names and inputs
    added = MODES[request.mode].rewrite(graph, library, main, wanted)
    op_types = None
    if request.loops == FUNCTIONAL:
        op_types = make_graph_functional(graph, library, where, kept)
    return Rewritten(graph.take_content(), added, op_types)
