"""The function library of a graph: who calls which function, and function bodies as nodes.

A FunctionDef refers to an output as ``node:output_name:index``. A `Body` uses the references of a
GraphDef, has arguments as nodes of the op ``_Arg``, and can be written back into the FunctionDef.
"""

import re
from typing import Dict, Iterator, List, Optional, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import FunctionDef, NodeDef, OpDef, Proto
from tf1xent.errors import GraphFileError, RewriteError
from tf1xent.graphs.formula.kernel_ops import is_cross_entropy, kernel_op_definition
from tf1xent.graphs.formula.primitive_ops import is_primitive
from tf1xent.graphs.raw import NodeList, serialized
from tf1xent.graphs.wiring import CONTROL, Wiring, join_reference, split_reference

ARGUMENT = "_Arg"
# Ops that call the function in an attribute. In TF 1.x the op type may be the function's name.
_CALLS = {"PartitionedCall": "f", "StatefulPartitionedCall": "f"}
# Attribute types that name functions; v2 branches and loops have such attributes.
_FUNCTION_TYPES = ("func", "list(func)")
_OUTPUT = re.compile(r"(?P<node>[^:^]+):(?P<output>[^:]+)(:(?P<index>[0-9]{1,9}))?")


class Library:
    """The functions of a FunctionDefLibrary by name; errors name the graph by `where`."""

    def __init__(self, library: Proto, where: str) -> None:
        self.where = where
        self.functions: Dict[str, FunctionDef] = {}
        for function in library.function:
            name = function.signature.name
            if self.functions.setdefault(name, function) is not function:
                raise GraphFileError(f"{where}: two functions are named `{name}`.")

    def called(self, node: NodeDef) -> Optional[str]:
        """Returns the function of the library that a node calls; None if it is no call.

        Only such a node can be inlined. Branches and loops name functions but are no calls.
        """
        name = node.op
        if node.op in _CALLS and _CALLS[node.op] in node.attr:
            name = node.attr[_CALLS[node.op]].func.name
        return name if name in self.functions else None

    def callees(self, node: NodeDef) -> List[str]:
        """Returns the functions of the library that a node names, by its op or an attribute."""
        names = [node.op]
        for key in sorted(node.attr):
            value = node.attr[key]
            names += [value.func.name, *(function.name for function in value.list.func)]
        return [name for name in names if name in self.functions]

    def call_types(self) -> List[str]:
        """Returns the op types that calls can have."""
        return [*_CALLS, *self.functions] if self.functions else []

    def calls(self, wiring: Wiring) -> Iterator[Tuple[int, str]]:
        """Yields (position, function) of the calls in a graph."""
        for position in wiring.of_types(self.call_types()):
            name = self.called(wiring.nodes[position])
            if name is not None:
                yield position, name

    def callers(self, wiring: Wiring) -> Iterator[Tuple[int, List[str]]]:
        """Yields (position, functions) of all nodes that name functions: calls, branches, loops."""
        if self.functions:
            for position in wiring.of_types(filter(self._may_call, set(wiring.ops))):
                names = self.callees(wiring.nodes[position])
                if names:
                    yield position, names

    def _may_call(self, op_type: str) -> bool:
        definition = self.definition(op_type)
        if op_type in self.functions or definition is None:
            return True
        return any(attribute.type in _FUNCTION_TYPES for attribute in definition.attr)

    def definition(self, op_type: str) -> Optional[OpDef]:
        """Returns the OpDef of an op type or function; None if this TensorFlow does not know it."""
        if op_type in self.functions:
            return self.functions[op_type].signature
        return kernel_op_definition(op_type) or _tf.op_definition(op_type)

    def holding(self) -> Tuple[List[str], List[str]]:
        """Finds the functions with something to rewrite, their own or in a function they name.

        Returns (functions that can be inlined, callees first; functions that cannot be inlined,
        because they call themselves or name one that does).
        """
        callees = {
            name: {callee for node in function.node_def for callee in self.callees(node)}
            for name, function in self.functions.items()
        }
        found = {
            name
            for name, function in self.functions.items()
            if any(_is_of_interest(node) for node in function.node_def)
        }
        callers: Dict[str, List[str]] = {name: [] for name in callees}
        for name, named in callees.items():
            for callee in named:
                callers[callee].append(name)
        pending = list(found)
        while pending:
            new = set(callers[pending.pop()]) - found
            found |= new
            pending += new
        open_ = {name: len(callees[name] & found) for name in callees if name in found}
        order = [name for name in open_ if not open_[name]]
        for name in order:  # the loop appends to it
            for caller in callers[name]:
                open_[caller] -= 1
                if not open_[caller]:
                    order.append(caller)
        return order, [name for name in open_ if open_[name]]

    def on_a_cycle(self, recursive: List[str]) -> str:
        """Returns a function that calls itself, given the second list of `holding`."""
        name, passed = recursive[0], set()
        while name not in passed:
            passed.add(name)
            callees = [c for node in self.functions[name].node_def for c in self.callees(node)]
            name = next(callee for callee in callees if callee in recursive)
        return name


def _is_of_interest(node: NodeDef) -> bool:
    """Tells whether a rewrite may change a node."""
    return is_cross_entropy(node) or is_primitive(node) or _is_guard(node)


def _is_guard(node: NodeDef) -> bool:
    if node.op != _tf.GUARD_OP:
        return False
    return "message" in node.attr and _tf.guards_cross_entropy(node)


class Body:
    """A function's body as the nodes of a GraphDef.

    Attributes:
      arguments, result_types: the ArgDefs of the signature.
      results: references of the returned tensors, in order.
      control_results: the nodes that must run before the function returns.
    """

    def __init__(self, function: FunctionDef, library: Library) -> None:
        self.name = function.signature.name
        self.where = f"{library.where}: function `{self.name}`"
        self.arguments = list(function.signature.input_arg)
        self.result_types = list(function.signature.output_arg)
        nodes = [_argument_node(a, i, self.where) for i, a in enumerate(self.arguments)]
        nodes += function.node_def
        by_name: Dict[str, NodeDef] = {}
        for node in nodes:
            if by_name.setdefault(node.name, node) is not node:
                raise GraphFileError(f"{self.where}: two nodes are named `{node.name}`.")
        for node in function.node_def:
            if node.op == ARGUMENT:
                raise GraphFileError(f"{self.where}: node `{node.name}` is of the op `{ARGUMENT}`.")

        def flat(reference: str) -> str:
            return _flat(reference, by_name, library, self.where)

        copies = []
        for node in nodes:
            copy = tf.NodeDef()
            copy.CopyFrom(node)
            copy.input[:] = [flat(reference) for reference in node.input]
            copies.append(serialized(copy))
        self.nodes = NodeList(copies, self.where)
        self.results: List[str] = []
        for result in self.result_types:
            if result.name not in function.ret or function.ret[result.name].startswith("^"):
                raise GraphFileError(f"{self.where}: its result `{result.name}` is not defined.")
            self.results.append(flat(function.ret[result.name]))
        control = getattr(function, "control_ret", {})  # TF 1.13 has no such field
        self.control_results = [control[key] for key in sorted(control)]
        for name in self.control_results:
            if name not in by_name:
                raise GraphFileError(f"{self.where}: it waits for `{name}`, which is missing.")

    def wiring(self) -> Wiring:
        """Returns the inputs of the nodes."""
        return Wiring(self.nodes, self.where)

    def put_into(self, function: FunctionDef, library: Library) -> None:
        """Writes the nodes into a FunctionDef; its signature and attributes stay."""
        by_name = {node.name: node for node in self.nodes}

        def nested(reference: str) -> str:
            return nested_reference(reference, by_name, library, self.where)

        del function.node_def[:]
        for node in by_name.values():
            if node.op != ARGUMENT:
                added = function.node_def.add()
                added.CopyFrom(node)
                added.input[:] = [nested(reference) for reference in node.input]
        for result, reference in zip(self.result_types, self.results):
            function.ret[result.name] = nested(reference)


def _argument_node(argument: Proto, position: int, where: str) -> NodeDef:
    if argument.number_attr or argument.type_list_attr:
        raise RewriteError(
            f"{where}: argument `{argument.name}` is a list of tensors, which is not supported in "
            "functions that hold a cross-entropy op."
        )
    node = tf.NodeDef(name=argument.name, op=ARGUMENT)
    if argument.type_attr:
        node.attr["T"].placeholder = argument.type_attr
    else:
        node.attr["T"].type = argument.type
    node.attr["index"].i = position
    return node


def _flat(reference: str, by_name: Dict[str, NodeDef], library: Library, where: str) -> str:
    """Converts a reference of a FunctionDef to one of a GraphDef."""
    name = reference[1:] if reference.startswith("^") else reference
    if name in by_name and (name != reference or by_name[name].op == ARGUMENT):
        return reference
    match = _OUTPUT.fullmatch(reference)
    if match is not None and match.group("node") in by_name:
        node = by_name[match.group("node")]
        index = int(match.group("index") or 0)
        offset, count = outputs_of(node, library, where).get(match.group("output"), (0, 0))
        if node.op == ARGUMENT or index < count:
            return join_reference(node.name, offset + index)
    raise GraphFileError(f"{where}: `{reference}` is read, but is missing.")


def nested_reference(
    reference: str, by_name: Dict[str, NodeDef], library: Library, where: str
) -> str:
    """Converts a reference of a GraphDef to one of a FunctionDef."""
    name, index = split_reference(reference)
    if index == CONTROL or by_name[name].op == ARGUMENT:
        return reference
    for output, (offset, count) in outputs_of(by_name[name], library, where).items():
        if offset <= index < offset + count:
            return f"{name}:{output}:{index - offset}"
    raise GraphFileError(f"{where}: `{reference}` is read, but is missing.")


def outputs_of(node: NodeDef, library: Library, where: str) -> Dict[str, Tuple[int, int]]:
    """Returns (index of its first tensor, number of tensors) of each output, by output name."""
    if node.op == ARGUMENT:
        return {}
    definition = library.definition(node.op)
    if definition is None:
        raise RewriteError(
            f"{where}: node `{node.name}` has the op `{node.op}`, which this TensorFlow does not "
            "know, so its outputs cannot be counted. Load the library that defines it first."
        )
    outputs, offset = {}, 0
    for output in definition.output_arg:
        count = 1
        if output.number_attr:
            count = attribute_of(node, definition, output.number_attr, where).i
        elif output.type_list_attr:
            count = len(attribute_of(node, definition, output.type_list_attr, where).list.type)
        outputs[output.name] = offset, max(count, 0)
        offset += max(count, 0)
    return outputs


def attribute_of(node: NodeDef, definition: OpDef, name: str, where: str) -> Proto:
    """Returns an attribute of a node, or its default."""
    if name in node.attr:
        return node.attr[name]
    for attribute in definition.attr:
        if attribute.name == name:
            return attribute.default_value
    raise GraphFileError(f"{where}: node `{node.name}`, {node.op}, has no attribute `{name}`.")
