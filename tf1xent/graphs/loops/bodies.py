"""Parts of a graph become functions: what they read from outside becomes their arguments."""

import hashlib
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import FunctionDef, NodeDef, Proto
from tf1xent.graphs.attributes import DataType, set_attribute
from tf1xent.graphs.functions import (
    ARGUMENT,
    Library,
    attribute_of,
    nested_reference,
    outputs_of,
)
from tf1xent.graphs.loops.net import Net, NotUnderstoodError, canonical, copied
from tf1xent.graphs.raw import serialized
from tf1xent.graphs.wiring import Names, split_reference

# Stateful ops that may run twice: they change nothing, and draw no random numbers.
_HARMLESS = frozenset(
    "Assert If ReadVariableOp ResourceGather ResourceGatherNd VarHandleOp VariableShape "
    "While".split()
)
_DIGITS = 8


class Functions:
    """Makes the functions of the loops and branches of one graph.

    Attributes:
      library: of the graph; new functions are added to it.
      added: the names of the functions that were added.
    """

    def __init__(self, library: Library, salt: bytes) -> None:
        self.library = library
        self.added: Dict[str, FunctionDef] = {}
        # By function with a node that must not run twice, the name of such a node.
        self._unrepeatable: Dict[str, str] = {}
        self._salt = hashlib.sha1(salt).digest()

    def add(self, hint: str, net: Net, arguments: "Arguments", results: Sequence[str]) -> str:
        """Adds a function that computes `results`; returns its name.

        Names tell bodies apart: TF 2.x keeps the functions of all graphs of a process together.
        """
        function = self._function(net, arguments, results)
        content = hashlib.sha1(self._salt + serialized(function)).hexdigest()[:_DIGITS]
        plain = "".join(letter if letter.isalnum() else "_" for letter in hint)
        name = f"{plain}_{content}"
        function.signature.name = name
        if name not in self.library.functions:
            self.library.functions[name] = self.added[name] = function
        for node in function.node_def:
            found = self.unrepeatable(node)
            if found is not None:
                self._unrepeatable[name] = found
        return name

    def _function(self, net: Net, arguments: "Arguments", results: Sequence[str]) -> FunctionDef:
        library = self.library
        function = _tf.FunctionDef()
        by_name: Dict[str, NodeDef] = {}
        dtypes = {argument.name: argument.dtype for argument in arguments.all}
        for argument in arguments.all:
            function.signature.input_arg.add(name=argument.name, type=argument.dtype)
        roots = [name for name, _ in map(split_reference, results) if name in net.nodes]
        needed = net.upstream(roots, lambda _: True)
        by_name.update((name, node) for name, node in net.nodes.items() if name in needed)
        by_name.update((node.name, node) for node in arguments.nodes())
        for name in filter(needed.__contains__, net.nodes):
            if net.op(name) == ARGUMENT:
                continue
            node = copied(net.nodes[name])
            node.input[:] = [
                nested_reference(reference, by_name, library, library.where)
                for reference in node.input
            ]
            if "_class" in node.attr:  # places of other nodes mean nothing in a function
                del node.attr["_class"]
            function.node_def.add().CopyFrom(node)
        for number, reference in enumerate(results):
            name = f"output_{number}"
            dtype = dtypes.get(reference) or output_type(net, reference, library)
            function.signature.output_arg.add(name=name, type=dtype)
            function.ret[name] = nested_reference(reference, by_name, library, library.where)
        return function

    def unrepeatable(self, node: NodeDef) -> Optional[str]:
        """Returns the name of what must not run twice, the node or one in a function; or None."""
        for name in self.library.callees(node):
            if name in self._unrepeatable:
                return self._unrepeatable[name]
        is_list = node.op.startswith("TensorList")  # stateful in some versions
        is_harmless = node.op in _HARMLESS or is_list or not self.is_stateful(node)
        return None if is_harmless else str(node.name)

    def is_stateful(self, node: NodeDef) -> bool:
        """Whether a node is of a stateful op."""
        definition = self.library.definition(node.op)
        return definition is None or bool(definition.is_stateful)

    def any_stateful(self, names: Sequence[str]) -> bool:
        """Whether any of some functions holds a stateful op."""
        functions = [self.library.functions[name] for name in names]
        return any(self.is_stateful(node) for f in functions for node in f.node_def)


class Argument(NamedTuple):
    """An argument of a function.

    Attributes:
      name: in the function.
      outside: reference of its value, outside.
      dtype: number of a DataType.
      shape: TensorShapeProto.
    """

    name: str
    outside: str
    dtype: int
    shape: Proto


class Arguments:
    """The arguments of the functions of one loop or branch, in order."""

    def __init__(self, names: Names) -> None:
        self.all: List[Argument] = []
        self._names = names
        self._by_outside: Dict[str, str] = {}

    def nodes(self) -> List[NodeDef]:
        """Returns the arguments as nodes of a function."""
        found = []
        for argument in self.all:
            node = tf.NodeDef(name=argument.name, op=ARGUMENT)
            node.attr["T"].type = argument.dtype
            node.attr["_output_shapes"].list.shape.add().CopyFrom(argument.shape)
            found.append(node)
        return found

    def add(self, hint: str, outside: str, dtype: int, shape: Proto) -> str:
        """Adds an argument; returns its name."""
        plain = "".join(letter if letter.isalnum() else "_" for letter in hint).lower()
        name = self._names.unique(plain if plain[:1].isalpha() else f"argument_{plain}")
        self.all.append(Argument(name, outside, dtype, shape))
        return name

    def captured(self, outside: str, dtype: int, shape: Proto) -> str:
        """Returns the argument that hands a tensor in as it is, which may be there already."""
        outside = canonical(outside)
        if outside not in self._by_outside:
            hint = split_reference(outside)[0].split("/")[-1]
            self._by_outside[outside] = self.add(hint, outside, dtype, shape)
        return self._by_outside[outside]


# Returns (reference, whether its node belongs to the function too) of a reference.
Resolve = Callable[[str], Tuple[str, bool]]


def extracted(
    net: Net,
    results: Sequence[str],
    arguments: Arguments,
    resolve: Resolve,
    waits_for: Callable[[str], bool],
) -> Tuple[Net, List[str]]:
    """Copies what `results` need; returns it and the new references of the results.

    Args:
      net: where they are.
      results: references.
      arguments: of the function that it becomes; `resolve` may add to them.
      resolve: of data inputs.
      waits_for: tells of a node whether control inputs from it are kept.
    """
    nodes: Dict[str, NodeDef] = {}
    pending: List[str] = []

    def taken(reference: str) -> str:
        new, is_inside = resolve(canonical(reference))
        if is_inside:
            pending.append(split_reference(new)[0])
        return new

    found = [taken(reference) for reference in results]
    while pending:
        name = pending.pop()
        if name in nodes:
            continue
        nodes[name] = copied(net.nodes[name])
        waited = [source for source in net.controls(name) if waits_for(source)]
        pending.extend(waited)
        inputs = [taken(reference) for reference in net.data(name)]
        nodes[name].input[:] = inputs + [f"^{source}" for source in waited]
    inside = [nodes[name] for name in net.nodes if name in nodes]
    return Net([*arguments.nodes(), *inside], net.names), found


def as_result(net: Net, hint: str, reference: str, dtype: int) -> str:
    """Adds an Identity: TensorFlow takes a result that is an argument for a loop's invariant."""
    return net.add(f"{hint}/result", "Identity", [reference], T=DataType(dtype))


def output_type(net: Net, reference: str, library: Library) -> int:
    """Returns the DataType of a tensor."""
    name, index = split_reference(reference)
    node = net.nodes.get(name)
    if node is not None and node.op == ARGUMENT:
        return int(node.attr["T"].type)
    definition = node and library.definition(node.op)
    if node is None or definition is None:
        raise NotUnderstoodError(f"the type of `{reference}` is unknown")
    outputs = outputs_of(node, library, library.where)
    for output in definition.output_arg:
        offset, count = outputs[output.name]
        if offset <= index < offset + count:
            if output.is_ref:
                raise NotUnderstoodError(f"`{reference}` is a reference to a variable")
            key = output.type_list_attr or output.type_attr
            value = attribute_of(node, definition, key, library.where) if key else output
            return int(value.list.type[index - offset] if output.type_list_attr else value.type)
    raise NotUnderstoodError(f"`{reference}` is read, but is missing")


def shape_of(net: Net, reference: str) -> Proto:
    """Returns the recorded shape of a tensor, unknown where none is recorded."""
    shape = tf.TensorShape(None).as_proto()
    name, index = split_reference(reference)
    node = net.nodes.get(name)
    if node is not None and "_output_shapes" in node.attr:
        shapes = node.attr["_output_shapes"].list.shape
        if index < len(shapes):
            shape.CopyFrom(shapes[index])
    elif node is not None and node.op == "Const" and "value" in node.attr:
        shape.CopyFrom(node.attr["value"].tensor.tensor_shape)
    return shape


def set_functions(node: NodeDef, shapes: Sequence[Proto], **functions: str) -> None:
    """Sets the attributes of a While or If: its functions and the shapes of its outputs."""
    for key, function in functions.items():
        node.attr[key].func.name = function
    node.attr["output_shapes"].list.SetInParent()
    node.attr["output_shapes"].list.shape.extend(shapes)
    # In a session TensorFlow runs it as Switch and Merge then, and only what is asked for.
    set_attribute(node, "_lower_using_switch_merge", True)
