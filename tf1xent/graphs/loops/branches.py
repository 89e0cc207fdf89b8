"""v1 branches become If ops.

Switch leads a tensor into one of two branches, Merge out of both. A node runs in the branches of
all Switches before it, up to a Merge: its conditions are their predicates, with 1 or 0.
"""

from typing import Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from tf1xent._typing import NodeDef
from tf1xent.errors import RewriteError
from tf1xent.graphs.attributes import DataType
from tf1xent.graphs.loops.bodies import (
    Arguments,
    Functions,
    as_result,
    extracted,
    output_type,
    set_functions,
    shape_of,
)
from tf1xent.graphs.loops.net import (
    BACK_EDGES,
    BOOL,
    INT32,
    MERGES,
    STACKS,
    SWITCHES,
    V1_OPS,
    Net,
    NotUnderstoodError,
    become,
    frame_paths,
)
from tf1xent.graphs.wiring import CONTROL, join_reference, split_reference

# The most nodes between the branches of one tf.cond.
_MOST_STEPS = 1000
# Predicates and their values; None where they contradict each other.
Conditions = Optional[Dict[str, int]]


class Branch(NamedTuple):
    """A Merge, the predicate that decides it, and its inputs where that is false and true."""

    merge: str
    predicate: str
    sources: Tuple[str, str]
    around: Dict[str, int]


class Branches:
    """The branches of a net, outside its loops."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self.conditions: Dict[str, Conditions] = {}
        self.found: List[Branch] = []
        # By Merge, why it is none.
        self.strange: Dict[str, str] = {}
        paths = frame_paths(net)
        order = net.order()
        self.positions = {name: position for position, name in enumerate(order)}
        # As they are before anything is replaced.
        self.readers = net.readers()
        for name in order:
            if net.op(name) in MERGES and not paths[name]:
                self.conditions[name] = self._merged(name)
            else:
                sources = net.inputs(name)
                self.conditions[name] = self._all([self.of(source) for source in sources])
                if net.op(name) in MERGES and self.conditions[name] is None:
                    self.conditions[name] = {}

    def root(self, reference: str) -> str:
        """Returns the tensor that Identities hand on as `reference`."""
        name, _ = split_reference(reference)
        while self._net.op(name) == "Identity":
            reference = self._net.data(name)[0]
            name, _ = split_reference(reference)
        return reference

    def of(self, source: Tuple[str, int]) -> Conditions:
        """Returns the conditions under which an output is computed."""
        name, index = source
        known = self.conditions.get(name, {})
        if self.decides(name) is None or index == CONTROL or known is None:
            return known
        return self._all([known, {self.decides(name) or "": index}])

    def decides(self, name: str) -> Optional[str]:
        """Returns the predicate of a Switch; None for one of a loop, and for other nodes."""
        if self._net.op(name) not in SWITCHES:
            return None
        predicate = self._net.data(name)[1]
        is_loops = self._net.op(split_reference(predicate)[0]) == "LoopCond"
        return None if is_loops else self.root(predicate)

    def plumbing(self, predicates: Set[str]) -> Set[str]:
        """Returns the nodes that only lead into the branches of some predicates."""
        net = self._net
        found = {name for name in net.of_types(SWITCHES) if self.decides(name) in predicates}
        for name in net.of_types(["Identity", "Const", *SWITCHES]):
            if not predicates.isdisjoint(self.conditions.get(name) or ()):
                found.add(name)
        return found

    def are_apart(self, group: List[Branch]) -> bool:
        """Whether no branch of some depends on another's result, as far as a short search tells.

        Branches of one tf.cond are close. Its recorded gradient may be far away, and depends on it.
        """
        merges = {branch.merge for branch in group}
        first = min(self.positions[merge] for merge in merges)
        found, pending = set(merges), list(merges)
        while pending and len(found) < _MOST_STEPS:
            for source, _ in self._net.inputs(pending.pop()):
                if source in merges:
                    return False
                if source not in self._net.nodes or source in found:
                    continue
                if self.positions.get(source, first + 1) > first:
                    found.add(source)
                    pending.append(source)
        return not pending

    def _all(self, found: List[Conditions]) -> Conditions:
        together: Dict[str, int] = {}
        for conditions in found:
            if conditions is None:
                return None
            for predicate, value in conditions.items():
                if together.setdefault(predicate, value) != value:
                    return None
        return together

    def _merged(self, merge: str) -> Conditions:
        data = self._net.data(merge)
        if any(self._net.op(split_reference(source)[0]) in BACK_EDGES for source in data):
            return {}
        found = [self.of(split_reference(source)) for source in data]
        known = [conditions for conditions in found if conditions is not None]
        if len(found) != 2 or len(known) != 2:
            self.strange[merge] = "it does not merge two branches"
            return {}
        first, second = known
        common = {p: v for p, v in first.items() if second.get(p) == v}
        deciding = [p for p in first if p in second and p not in common]
        if len(deciding) != 1 or not len(first) == len(second) == len(common) + 1:
            self.strange[merge] = "one predicate must decide between its two inputs"
            return common
        predicate = deciding[0]
        order = (0, 1) if first[predicate] == 0 else (1, 0)
        sources = data[order[0]], data[order[1]]
        self.found.append(Branch(merge, predicate, sources, common))
        return common


def replace_branches(
    net: Net,
    functions: Functions,
    refuse: Callable[[str, RewriteError], None],
    replaced: Optional[Set[str]] = None,
) -> None:
    """Replaces the branches of a net by If ops, the innermost first.

    The net has no loops left inside the branches. `refuse` is called with the names of Merges that
    stay, and the reason. The names of what the If ops take the place of are added to `replaced`.
    """
    branches = Branches(net)
    for merge, reason in branches.strange.items():
        refuse(merge, NotUnderstoodError(reason))
    done: Set[str] = set()
    inside: Set[str] = set()
    innermost_first = sorted(branches.found, key=lambda branch: -len(branch.around))
    for group in _groups(net, branches, innermost_first):
        nodes = dict(net.nodes)
        replacement = _Replacement(net, branches, group, functions)
        try:
            replacement.replace()
            done.add(group[0].predicate)
            inside |= replacement.inside
        except RewriteError as error:
            net.nodes = nodes
            for branch in group:
                refuse(branch.merge, error)
    if replaced is not None:
        replaced |= inside | branches.plumbing(done)


def _groups(net: Net, branches: Branches, found: List[Branch]) -> List[List[Branch]]:
    """Puts branches together that share nodes, so that these run once."""
    groups: List[List[Branch]] = []
    interiors: List[Set[str]] = []
    for branch in found:
        interior = _interior(net, branches, branch)
        for group, others in zip(groups, interiors):
            same = group[0].predicate == branch.predicate and group[0].around == branch.around
            if same and not interior.isdisjoint(others) and branches.are_apart([*group, branch]):
                group.append(branch)
                others |= interior
                break
        else:
            groups.append([branch])
            interiors.append(interior)
    return groups


def _interior(net: Net, branches: Branches, branch: Branch) -> Set[str]:
    """Returns the nodes that compute something in the two branches."""

    def is_inside(name: str) -> bool:
        conditions = branches.conditions.get(name)
        return conditions is not None and branch.predicate in conditions

    ends = [split_reference(source)[0] for source in branch.sources]
    return {
        name
        for name in net.upstream(filter(is_inside, ends), is_inside)
        if net.op(name) not in SWITCHES and not _is_anchor(net, name)
    }


def _is_anchor(net: Net, name: str) -> bool:
    """Whether a node only hands on what a Switch lets in."""
    is_identity = net.op(name) == "Identity" and not net.controls(name)
    return is_identity and net.op(_source(net, name)) in SWITCHES


def _source(net: Net, name: str) -> str:
    """Returns the node that a node's first input comes from."""
    return split_reference(net.data(name)[0])[0]


class _Replacement:
    """Replaces the Merges of one If."""

    def __init__(
        self, net: Net, branches: Branches, group: List[Branch], functions: Functions
    ) -> None:
        self._net, self._branches, self._group = net, branches, group
        self._functions = functions
        self._predicate = group[0].predicate
        self._hint = group[0].merge.rpartition("/")[0] or group[0].merge
        self._arguments = Arguments(net.names)
        self._waits: Dict[str, None] = {}
        # The names of the nodes in the branches, and of the Switches before them.
        self.inside: Set[str] = set()

    def replace(self) -> None:
        net, group = self._net, self._group
        parts = [self._part(value) for value in (0, 1)]
        arguments, hint = self._arguments, self._hint
        names = [
            self._functions.add(f"{hint}_{kind}", part, arguments, results)
            for kind, (part, results) in zip(("false", "true"), parts)
        ]
        self._check_runs_once()
        stateful = self._functions.any_stateful(names)
        inputs = [self._decided(), *(argument.outside for argument in arguments.all)]
        types = [DataType(net.nodes[branch.merge].attr["T"].type) for branch in group]
        if_ = net.add(
            f"{hint}/functional",
            "If" if stateful else "StatelessIf",
            inputs,
            Tcond=DataType(BOOL),
            Tin=[DataType(argument.dtype) for argument in arguments.all],
            Tout=types,
        )
        node = net.nodes[if_]
        shapes = [shape_of(net, branch.merge) for branch in group]
        set_functions(node, shapes, then_branch=names[1], else_branch=names[0])
        around = self._branches.conditions[group[0].merge]
        self._branches.conditions[if_] = around
        for place, branch in enumerate(group):
            index = self._value_index(net.nodes[branch.merge], branch, around)
            value = [join_reference(if_, place), index]
            become(net.nodes[branch.merge], "IdentityN", value, T=[types[place], DataType(INT32)])

    def _decided(self) -> str:
        """Returns the predicate, after all that nodes in the branches wait for outside.

        The If op itself must not wait: TensorFlow's gradient adds inputs to it.
        """
        if not self._waits:
            return self._predicate
        inputs = [self._predicate, *(f"^{name}" for name in self._waits)]
        name = self._net.add(
            f"{self._hint}/functional/waited", "Identity", inputs, T=DataType(BOOL)
        )
        self._branches.conditions[name] = self._branches.conditions[self._group[0].merge]
        return name

    def _check_runs_once(self) -> None:
        """Refuses what must not run twice where something else than the If needs it."""
        net = self._net
        found = [net.nodes[n] for n in net.nodes if n in self.inside]
        found = [node for node in found if self._functions.unrepeatable(node) is not None]
        merges = {branch.merge for branch in self._group}
        part = Net((net.nodes[name] for name in self.inside), net.names)
        readers = self._branches.readers
        for name in sorted(part.downstream(node.name for node in found)):
            for reader, _, _ in readers.get(name, ()):
                if reader not in self.inside | merges:
                    raise NotUnderstoodError(f"`{reader}` needs `{name}`, which must not run twice")

    def _value_index(self, merge: NodeDef, branch: Branch, around: Conditions) -> str:
        """Adds the second output of a Merge: which of its inputs it hands on; returns its name."""
        net, predicate = self._net, self._predicate
        if net.data(merge.name)[0] == branch.sources[1]:
            inverse = net.add(f"{self._hint}/functional/LogicalNot", "LogicalNot", [predicate])
            self._branches.conditions[inverse] = around
            predicate = inverse
        types = {"SrcT": DataType(BOOL), "DstT": DataType(INT32)}
        index = net.add(f"{self._hint}/functional/value_index", "Cast", [predicate], **types)
        self._branches.conditions[index] = around
        return index

    def _part(self, value: int) -> Tuple[Net, List[str]]:
        """Returns what is computed where the predicate has a value, and the results."""
        part, found = extracted(
            self._net,
            [branch.sources[value] for branch in self._group],
            self._arguments,
            lambda reference: self._resolve(reference, value),
            self._waits_for,
        )
        self.inside.update(filter(self._net.nodes.__contains__, part.nodes))
        left = part.of_types(V1_OPS | STACKS)
        if left:
            raise NotUnderstoodError(f"`{left[0]}` is in one of its branches")
        results = []
        for branch, reference in zip(self._group, found):
            dtype = self._net.nodes[branch.merge].attr["T"].type
            results.append(as_result(part, self._hint, reference, dtype))
        return part, results

    def _is_inside(self, name: str) -> bool:
        conditions = self._branches.conditions.get(name)
        return conditions is not None and self._predicate in conditions

    def _resolve(self, reference: str, value: int) -> Tuple[str, bool]:
        net = self._net
        name, index = split_reference(reference)
        if self._branches.decides(name) == self._predicate:
            if index != value:
                raise NotUnderstoodError(f"`{reference}` is read in the other branch")
            if net.op(name) != "Switch":
                raise NotUnderstoodError(f"`{name}` lets a reference to a variable in")
            self.inside.add(name)
            source = net.data(name)[0]
            if self._is_inside(split_reference(source)[0]):
                return self._resolve(source, value)
            return self._captured(source, net.nodes[name].attr["T"].type), False
        if self._is_inside(name):
            return reference, True
        dtype = output_type(net, reference, self._functions.library)
        return self._captured(reference, dtype), False

    def _captured(self, reference: str, dtype: int) -> str:
        return self._arguments.captured(reference, dtype, shape_of(self._net, reference))

    def _waits_for(self, name: str) -> bool:
        if self._is_inside(name):
            is_plumbing = _is_anchor(self._net, name) or self._net.op(name) in SWITCHES
            self.inside.update([name] if is_plumbing else [])
            return not is_plumbing
        if self._net.op(name) not in SWITCHES:
            self._waits[name] = None
        return False
