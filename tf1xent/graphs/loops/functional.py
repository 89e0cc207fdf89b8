"""Makes the v1 loops and branches of a graph functional, and leaves the rest as it is.

Every outermost loop is copied, with the TensorArrays that go through it, as far as its results need
it. The copy becomes a While op, and its results take the names of the loop's. What is then left of
the loop is removed, unless a gradient that is recorded in the graph needs it.
"""

from typing import Collection, Dict, Iterable, List, NamedTuple, Set

from tf1xent import _tf
from tf1xent._typing import NodeDef
from tf1xent.errors import GraphFileError, RewriteError
from tf1xent.graphs.functions import Library
from tf1xent.graphs.loops.bodies import Functions
from tf1xent.graphs.loops.branches import replace_branches
from tf1xent.graphs.loops.net import (
    BACK_EDGES,
    ENTERS,
    EXITS,
    MERGES,
    STACKS,
    SWITCHES,
    V1_OPS,
    Net,
    NotUnderstoodError,
    copied,
    frame_paths,
)
from tf1xent.graphs.loops.reads import hoist_reads
from tf1xent.graphs.loops.regions import make_functional
from tf1xent.graphs.loops.tensor_arrays import (
    ARRAY_INPUTS,
    GRADIENT,
    Arrays,
    check_is_whole,
    convert,
    find_arrays,
)
from tf1xent.graphs.loops.whiles import replace_loops
from tf1xent.graphs.raw import Graph, serialized
from tf1xent.graphs.wiring import Names, split_reference

_PUSHES, _POPS = ("StackPushV2", "StackPush"), ("StackPopV2", "StackPop")
_PLACE = b"loc:@"
# The numbers of data inputs of what is looked into.
_ONE = (*ENTERS, *EXITS, *BACK_EDGES, "LoopCond", "Identity", "ReadVariableOp")
_INPUTS = {
    **dict.fromkeys(_ONE, 1),
    **dict.fromkeys((*SWITCHES, "ResourceGather"), 2),
    **ARRAY_INPUTS,
}


class _Group(NamedTuple):
    """Loops that share TensorArrays."""

    frames: Set[str]
    arrays: List[Arrays]


def make_graph_functional(
    graph: Graph, library: Library, where: str, kept: Collection[str] = ()
) -> Dict[str, str]:
    """Makes the loops and branches of a graph functional, in place; RewriteError if it cannot.

    Args:
      graph: the graph.
      library: its function library.
      where: the graph, as errors name it.
      kept: names of nodes that must stay, inside loops too.

    Returns:
      The op types of the nodes, by name.
    """
    contents = graph.nodes.contents
    nodes = list(graph.nodes)
    if not any(node.op in (*ENTERS, *SWITCHES) for node in nodes):
        return {node.name: node.op for node in nodes}
    if not _tf.can_be_differentiated("StatelessWhile"):
        raise RewriteError(
            f"{where}: `loops` must be keep with TensorFlow {_tf.version()}, whose While ops other "
            "versions cannot read. Rewrite it with TensorFlow 1.15 or later."
        )
    net = Net(nodes, Names(node.name for node in nodes))
    _check_inputs(net, where)
    functions = Functions(library, b"".join(map(serialized, nodes)))
    try:
        _Rewrite(net, functions, where, set(kept)).rewrite()
    except NotUnderstoodError as error:
        raise RewriteError(f"{where}: its loops cannot become functional: {error}.") from error
    contents[:] = [serialized(node) for node in net.nodes.values()]
    _add_functions(graph, functions, net)
    return {name: node.op for name, node in net.nodes.items()}


def _check_inputs(net: Net, where: str) -> None:
    """Raises GraphFileError for ops of loops and branches with another number of inputs."""
    for name in net.nodes:
        wanted, found = _INPUTS.get(net.op(name)), len(net.data(name))
        if wanted is not None and found != wanted:
            raise GraphFileError(
                f"{where}: node `{name}`, {net.op(name)}, must have {wanted} inputs, got {found}."
            )


def _add_functions(graph: Graph, functions: Functions, net: Net) -> None:
    """Adds the new functions that are used to the library of the graph."""
    pending = list(net.nodes.values())
    used: Set[str] = set()
    while pending:
        for name in functions.library.callees(pending.pop()):
            if name in functions.added and name not in used:
                used.add(name)
                pending.extend(functions.added[name].node_def)
    graph.rest.library.function.extend(f for name, f in functions.added.items() if name in used)


class _Rewrite:
    """The rewrite of one graph."""

    def __init__(self, net: Net, functions: Functions, where: str, kept: Set[str]) -> None:
        self._net, self._functions, self._where, self._kept = net, functions, where, kept
        self._paths = frame_paths(net)
        self._members: Dict[str, Set[str]] = {}
        for name, path in self._paths.items():
            if path:
                self._members.setdefault(path[0], set()).add(name)
        # Loops of gradients that are recorded in the graph.
        self._recorded = {
            frame
            for frame, members in self._members.items()
            if any(net.op(name) in (*_POPS, GRADIENT) for name in members)
        }
        # What may be removed where nothing else needs it.
        self._replaced: Set[str] = set()

    def rewrite(self) -> None:
        for group in self._groups():
            try:
                self._replace_loops(group)
            except RewriteError as error:
                frames = ", ".join(f"`{frame}`" for frame in sorted(group.frames))
                raise RewriteError(
                    f"{self._where}: the v1 loop {frames} cannot become functional: {error}. "
                    'Use `loops` "keep", which leaves all loops as they are.'
                ) from error
        self._replace_branches()
        self._remove_replaced()
        self._net.order()  # raises for a cycle

    def _groups(self) -> List[_Group]:
        """Returns the loops to replace, together where they share TensorArrays."""
        net, paths = self._net, self._paths

        def ends(name: str) -> bool:
            return paths[name][:1] != () and paths[name][0] in self._recorded

        groups = [_Group({f}, []) for f in self._members if f not in self._recorded]
        for arrays in find_arrays(net, ends):
            used = arrays.used_by(net) + [n for n in arrays.nodes if net.op(n) in MERGES]
            frames = {paths[name][0] for name in used if paths[name]}
            shared = [group for group in groups if group.frames & frames]
            if shared:
                groups = [group for group in groups if group not in shared]
                together = [a for group in shared for a in group.arrays]
                joined: Set[str] = set().union(*(group.frames for group in shared))
                groups.append(_Group(joined, [*together, arrays]))
        return groups

    def _results(self, group: _Group) -> List[str]:
        """Returns what the loops are there for: Exits, and values of TensorArrays.

        Not those that recorded gradients have added, which count the turns.
        """
        net, paths = self._net, self._paths
        members: Set[str] = set().union(*(self._members[frame] for frame in group.frames))
        pushes = [name for name in members if net.op(name) in _PUSHES]
        grown = self._downstream(pushes, members)
        hand_on: Set[str] = set().union(*(arrays.nodes for arrays in group.arrays))
        exits = [
            name
            for name in net.of_types(EXITS)
            if not paths[name]
            and split_reference(net.data(name)[0])[0] in members - grown
            and name not in hand_on
        ]
        values = [name for arrays in group.arrays for name in arrays.values(net)]
        return exits + sorted(name for name in values if not paths[name])

    def _downstream(self, starts: Iterable[str], members: Set[str]) -> Set[str]:
        net = self._net
        if not starts:
            return set()
        part = Net((net.nodes[name] for name in members), net.names)
        return part.downstream(starts)

    def _replace_loops(self, group: _Group) -> None:
        net, paths = self._net, self._paths
        results = self._results(group)
        if not results:
            return
        members: Set[str] = set().union(*(self._members[frame] for frame in group.frames))
        outside = {n for arrays in group.arrays for n in arrays.nodes if not paths[n]}
        old = members | outside | {n for n in net.of_types(EXITS) if self._leaves(n, members)}
        for arrays in group.arrays:
            check_is_whole(net, arrays)
        needed = net.upstream(results, old.__contains__)
        part = Net((copied(net.nodes[name]) for name in net.nodes if name in needed), net.names)
        convert(part, group.arrays)
        _prune(part, results)
        _rename(part, [n for n in part.nodes if not paths.get(n) and n not in results])
        hoist_reads(part)
        # Branches around what is outside the loops come later, with all that is in them.
        functions = self._functions
        replace_loops(part, functions, lambda inner: make_functional(inner, functions))
        _prune(part, results)
        self._check(part, old - set(results))
        net.nodes.update(part.nodes)
        self._replaced |= old - set(results)

    def _leaves(self, exit_: str, members: Set[str]) -> bool:
        return not self._paths[exit_] and split_reference(self._net.data(exit_)[0])[0] in members

    def _check(self, part: Net, old: Set[str]) -> None:
        """Refuses what was not converted, and what would run twice."""
        left = part.of_types((V1_OPS | STACKS) - {"Switch", "Merge"})
        left += [name for name, node in part.nodes.items() if node.op.startswith("TensorArray")]
        if left:
            raise NotUnderstoodError(f"`{left[0]}`, {part.op(left[0])}, is not understood")
        unrepeatable = [self._functions.unrepeatable(node) for node in part.nodes.values()]
        unrepeatable = [name for name in unrepeatable if name is not None]
        if unrepeatable and self._is_needed(old, part):
            raise NotUnderstoodError(
                f"`{unrepeatable[0]}` in it must not run twice, and a gradient that is recorded in "
                "the graph needs the loop as it is"
            )

    def _is_needed(self, old: Set[str], part: Net) -> bool:
        """Whether nodes that stay read some that could go."""
        net = self._net
        gone = old | self._replaced | set(part.nodes)
        stay = (name for name in net.nodes if name not in gone)
        read = any(source in old for name in stay for source, _ in net.inputs(name))
        return read or not self._kept.isdisjoint(old)

    def _replace_branches(self) -> None:
        """Replaces the branches; those of recorded gradients stay, TensorFlow runs them as well."""
        replace_branches(self._net, self._functions, lambda merge, error: None, self._replaced)

    def _remove_replaced(self) -> None:
        """Removes what was replaced, but for what is still needed; and colocations with it."""
        net = self._net
        gone = self._replaced - self._kept
        stay = [name for name in net.nodes if name not in gone]
        needed = net.upstream(stay, lambda _: True)
        for name in [name for name in net.nodes if name not in needed]:
            del net.nodes[name]
        for node in net.nodes.values():
            _forget_places(node, net)


def _forget_places(node: NodeDef, net: Net) -> None:
    """Removes colocations with nodes that are gone."""
    if "_class" not in node.attr:
        return
    classes = node.attr["_class"].list.s
    kept = [c for c in classes if not c.startswith(_PLACE) or _name_of(c) in net.nodes]
    if len(kept) < len(classes):
        node.attr["_class"].list.s[:] = kept
        if not kept:
            del node.attr["_class"]


def _name_of(place: bytes) -> str:
    return place[len(_PLACE) :].decode("utf-8", "replace")


def _prune(part: Net, results: List[str]) -> None:
    """Leaves only what some nodes need."""
    needed = part.upstream(results, lambda _: True)
    part.nodes = {name: node for name, node in part.nodes.items() if name in needed}


def _rename(part: Net, names: List[str]) -> None:
    """Gives nodes new names, beside the old ones that may stay in the graph."""
    new = {name: part.names.unique(f"{name}/functional") for name in names}
    renamed: Dict[str, NodeDef] = {}
    for name, node in part.nodes.items():
        node.name = new.get(name, name)
        node.input[:] = [_renamed(reference, new) for reference in node.input]
        renamed[node.name] = node
    part.nodes = renamed


def _renamed(reference: str, new: Dict[str, str]) -> str:
    name, index = split_reference(reference)
    if name not in new:
        return reference
    return reference.replace(name, new[name], 1) if index else new[name]
