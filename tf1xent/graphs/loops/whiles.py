"""A v1 while loop becomes a While op.

A loop variable runs Enter -> Merge -> Switch -> body -> NextIteration -> Merge, and Switch -> Exit
once the loop is done. Other values come in by Enters that are constant.
"""

from typing import Callable, Dict, Iterable, List, NamedTuple, Sequence, Set, Tuple

from tf1xent._tf import tf
from tf1xent._typing import Proto
from tf1xent.graphs.attributes import DataType, set_attribute
from tf1xent.graphs.loops.bodies import (
    Arguments,
    Functions,
    as_result,
    extracted,
    set_functions,
    shape_of,
)
from tf1xent.graphs.loops.net import (
    INT32,
    Net,
    NotUnderstoodError,
    become,
    canonical,
    frame_paths,
)
from tf1xent.graphs.wiring import join_reference, split_reference

# The argument of TensorFlow's gradient: the most turns; below 0 any number.
_ANY_NUMBER = -1


class Variable(NamedTuple):
    """A loop variable, by the names of its nodes; `exits` may be empty."""

    enter: str
    merge: str
    switches: List[str]
    following: str
    exits: List[str]


class Loop(NamedTuple):
    """A v1 while loop.

    Attributes:
      frame: its frame's name.
      members: the names of all nodes in it, those of loops inside it too.
      condition: the name of its LoopCond.
      variables: in the order of their Merges.
      constants: the names of its constant Enters.
    """

    frame: str
    members: Set[str]
    condition: str
    variables: List[Variable]
    constants: Set[str]


def read_loop(net: Net, frame: str, paths: Dict[str, Tuple[str, ...]]) -> Loop:
    """Reads an outermost loop of a net; NotUnderstoodError for what is no while loop."""
    members = {name for name in net.nodes if paths.get(name, ())[:1] == (frame,)}
    own = [name for name in net.nodes if paths.get(name) == (frame,)]
    conditions = [name for name in own if net.op(name) == "LoopCond"]
    if len(conditions) != 1:
        raise NotUnderstoodError(f"its frame has {len(conditions)} LoopCond ops, not one")
    condition = conditions[0]
    for name in own:
        if net.op(name).startswith("Ref"):
            raise NotUnderstoodError(f"node `{name}` is of the op {net.op(name)}")
    switches: Dict[str, List[str]] = {}
    for name in own:
        if net.op(name) == "Switch" and net.data(name)[1:] == [condition]:
            switches.setdefault(net.data(name)[0], []).append(name)
    exits: Dict[str, List[str]] = {}
    for name in net.of_types(["Exit"]):
        source = net.data(name)[0]
        if paths.get(split_reference(source)[0]) == (frame,):
            exits.setdefault(source, []).append(name)
    variables = []
    for name in own:
        sources = net.data(name)
        if net.op(name) == "Merge" and any(net.op(s) == "NextIteration" for s in sources):
            variables.append(_variable(net, name, frame, switches.pop(name, []), exits))
    strange = [*switches, *exits]
    if strange:
        raise NotUnderstoodError(f"`{strange[0]}` leaves it, and is no loop variable")
    entered = {variable.enter for variable in variables}
    enters = {n for n in own if net.op(n) == "Enter" and _frame_of(net, n) == frame} - entered
    constants = {name for name in enters if net.nodes[name].attr["is_constant"].b}
    for name in own:
        for source, _ in net.inputs(name):
            if source in enters - constants:
                raise NotUnderstoodError(f"`{source}` enters it for its first turn only")
    return Loop(frame, members, condition, variables, constants)


def _frame_of(net: Net, enter: str) -> str:
    return str(net.nodes[enter].attr["frame_name"].s.decode("utf-8", "replace"))


def _variable(
    net: Net, merge: str, frame: str, switches: List[str], exits: Dict[str, List[str]]
) -> Variable:
    sources = sorted(net.data(merge), key=net.op)
    if [net.op(source) for source in sources] != ["Enter", "NextIteration"]:
        raise NotUnderstoodError(f"`{merge}` must merge an Enter and a NextIteration")
    if _frame_of(net, sources[0]) != frame or net.nodes[sources[0]].attr["is_constant"].b:
        raise NotUnderstoodError(f"`{sources[0]}` must enter it as a loop variable")
    found = [name for switch in switches for name in exits.pop(switch, [])]
    return Variable(sources[0], merge, switches, sources[1], found)


def replace_loops(net: Net, functions: Functions, inner: Callable[[Net], None]) -> None:
    """Replaces the outermost loops of a net by While ops; `inner` does so for what is in them."""
    paths = frame_paths(net)
    frames = {path[0]: None for path in paths.values() if path}
    for frame in frames:
        _Replacement(net, read_loop(net, frame, paths), functions, inner).replace()


class _Replacement:
    """Replaces one loop."""

    def __init__(
        self, net: Net, loop: Loop, functions: Functions, inner: Callable[[Net], None]
    ) -> None:
        self._net, self._loop, self._functions, self._inner = net, loop, functions, inner
        self._hint = loop.frame
        if self._hint.endswith("/while_context"):
            self._hint = self._hint[: -len("/while_context")]
        self._arguments = Arguments(net.names)
        scalar = tf.TensorShape([]).as_proto()
        constants = [
            net.constant(f"{self._hint}/functional/{hint}", value, INT32)
            for hint, value in (("loop_counter", 0), ("maximum_iterations", _ANY_NUMBER))
        ]
        # TensorFlow's gradient of a While op counts its turns by the first variable.
        self._counters = [
            self._arguments.add(constant.split("/")[-1], constant, INT32, scalar)
            for constant in constants
        ]
        self._entered: Dict[str, str] = {}
        self._by_merge: Dict[str, str] = {}
        self._by_switch: Dict[str, str] = {}
        self._shapes = [scalar, scalar]
        for variable in loop.variables:
            self._add(variable)

    def _add(self, variable: Variable) -> None:
        net = self._net
        outside = self._entering(variable.enter)
        shape = shape_of(net, variable.merge)
        dtype = net.nodes[variable.enter].attr["T"].type
        name = self._arguments.add(variable.merge.split("/")[-1], outside, dtype, shape)
        self._shapes.append(shape)
        self._by_merge[variable.merge] = name
        self._by_switch.update((switch, name) for switch in variable.switches)

    def _entering(self, enter: str) -> str:
        """Returns what comes in by an Enter, after all that the Enter waits for.

        The While op itself must not wait: TensorFlow's gradient adds inputs to it.
        """
        net = self._net
        outside, controls = canonical(net.data(enter)[0]), net.controls(enter)
        if not controls:
            return outside
        dtype = DataType(net.nodes[enter].attr["T"].type)
        inputs = [outside, *(f"^{control}" for control in controls)]
        return net.add(f"{self._hint}/functional/waited", "Identity", inputs, T=dtype)

    def replace(self) -> None:
        """Adds the While op, takes the loop out, and makes its Exits Identities."""
        net, loop = self._net, self._loop
        following = [net.data(variable.following)[0] for variable in loop.variables]
        predicate = net.data(loop.condition)
        body, results = self._part(following, is_body=True)
        condition, decides = self._part(predicate, is_body=False)
        arguments = self._arguments.all
        one = body.constant(f"{self._hint}/one", 1, INT32)
        counter, most = self._counters
        following = [body.add(f"{self._hint}/add", "Add", [counter, one], T=DataType(INT32)), most]
        end = 2 + len(loop.variables)
        for result, variable in zip(results, arguments[2:end]):
            following.append(as_result(body, self._hint, result, variable.dtype))
        captured = arguments[end:]
        following += [argument.name for argument in captured]
        names = [
            self._functions.add(f"{self._hint}_cond", condition, self._arguments, decides),
            self._functions.add(f"{self._hint}_body", body, self._arguments, following),
        ]
        while_ = self._while(names, [*self._shapes, *(a.shape for a in captured)])
        for place, variable_nodes in enumerate(loop.variables, 2):
            for name in variable_nodes.exits:
                dtype = DataType(arguments[place].dtype)
                become(net.nodes[name], "Identity", [join_reference(while_, place)], T=dtype)
        for name in loop.members:
            del net.nodes[name]

    def _while(self, names: Sequence[str], shapes: Sequence[Proto]) -> str:
        """Adds the While op; returns its name."""
        net = self._net
        enters = [variable.enter for variable in self._loop.variables]
        inputs = [argument.outside for argument in self._arguments.all]
        stateful = self._functions.any_stateful(names)
        op = "While" if stateful else "StatelessWhile"
        types = [DataType(argument.dtype) for argument in self._arguments.all]
        name = net.add(f"{self._hint}/functional", op, inputs, T=types)
        node = net.nodes[name]
        node.device = net.nodes[self._loop.condition].device
        set_functions(node, shapes, cond=names[0], body=names[1])
        set_attribute(node, "_num_original_outputs", len(types))
        parallel = net.nodes[enters[0]].attr["parallel_iterations"].i if enters else 0
        set_attribute(node, "parallel_iterations", parallel or 10)
        return name

    def _part(self, results: Iterable[str], is_body: bool) -> Tuple[Net, List[str]]:
        """Returns the condition, or the body, as nodes of a function, itself functional."""
        part, found = extracted(
            self._net,
            list(results),
            self._arguments,
            lambda reference: self._resolve(reference, is_body),
            self._waits_for,
        )
        self._inner(part)
        return part, found

    def _resolve(self, reference: str, is_body: bool) -> Tuple[str, bool]:
        net, loop = self._net, self._loop
        name, index = split_reference(reference)
        if name in self._by_merge and index == 0:
            return self._by_merge[name], False
        if name in self._by_switch and is_body and index == 1:
            return self._by_switch[name], False
        if name in loop.constants:
            if name not in self._entered:
                self._entered[name] = self._entering(name)
            dtype, shape = net.nodes[name].attr["T"].type, shape_of(net, name)
            return self._arguments.captured(self._entered[name], dtype, shape), False
        is_plumbing = name in (*self._by_merge, *self._by_switch, loop.condition)
        if is_plumbing or name not in loop.members:
            raise NotUnderstoodError(f"`{reference}` is read in it, and is not handed in")
        return reference, True

    def _waits_for(self, name: str) -> bool:
        """Whether a node is more than a place to wait at until the turn begins."""
        net, loop = self._net, self._loop
        enters = (variable.enter for variable in loop.variables)
        plumbing = {*self._by_merge, *self._by_switch, *loop.constants, loop.condition, *enters}
        if net.op(name) == "Identity" and not net.controls(name):
            return split_reference(net.data(name)[0])[0] not in plumbing
        return name not in plumbing
