"""The function library of a graph: which functions are called where, and their bodies as nodes.

Inside a FunctionDef an output is called ``node:output_name:index``. A `Body` has the
references of a GraphDef, its arguments as nodes of the op ``_Arg``, and can be put back.
"""

import re
from typing import Any, Dict, Iterator, List, Optional, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.errors import GraphFileError, RewriteError
from tf1xent.graphs.formula.kernel_ops import is_cross_entropy, kernel_op_definition
from tf1xent.graphs.formula.primitive_ops import is_primitive
from tf1xent.graphs.raw import NodeList, serialized
from tf1xent.graphs.wiring import CONTROL, Wiring, join_reference, split_reference

ARGUMENT = "_Arg"
# Ops that call one function, with its attribute; in TF 1.x the call's op may also be its name.
_CALLS = {"PartitionedCall": "f", "StatefulPartitionedCall": "f"}
# Types of attributes that name functions, as those of branches and loops do.
_FUNCTION_TYPES = ("func", "list(func)")
_OUTPUT = re.compile(r"(?P<node>[^:^]+):(?P<output>[^:]+)(:(?P<index>[0-9]{1,9}))?")


class Library:
    """The functions of a FunctionDefLibrary by name; `where` says in errors whose they are."""

    def __init__(self, library: Any, where: str):
        self.where = where
        self.functions: Dict[str, Any] = {}
        for function in library.function:
            name = function.signature.name
            if self.functions.setdefault(name, function) is not function:
                raise GraphFileError(f"{where}: two functions are named `{name}`.")

    def called(self, node: Any) -> Optional[str]:
        """The function of the library whose body can stand in the place of a node, or None."""
        name = node.op
        if node.op in _CALLS and _CALLS[node.op] in node.attr:
            name = node.attr[_CALLS[node.op]].func.name
        return name if name in self.functions else None

    def callees(self, node: Any) -> List[str]:
        """The functions of the library that a node names, in its op or in any attribute."""
        names = [node.op]
        for key in sorted(node.attr):
            value = node.attr[key]
            names += [value.func.name, *(function.name for function in value.list.func)]
        return [name for name in names if name in self.functions]

    def call_types(self) -> List[str]:
        """The op types of the nodes that may call a function whose body can take their place."""
        return [*_CALLS, *self.functions] if self.functions else []

    def calls(self, wiring: Wiring) -> Iterator[Tuple[int, str]]:
        """(position, function) of the nodes whose place the body of a function can take."""
        for position in wiring.of_types(self.call_types()):
            name = self.called(wiring.nodes[position])
            if name is not None:
                yield position, name

    def callers(self, wiring: Wiring) -> Iterator[Tuple[int, List[str]]]:
        """(position, functions) of the nodes that name functions in their op or attributes."""
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

    def definition(self, op_type: str) -> Optional[Any]:
        """The OpDef of an op type or of a call, or None where this TensorFlow does not know it."""
        if op_type in self.functions:
            return self.functions[op_type].signature
        return kernel_op_definition(op_type) or _tf.op_definition(op_type)

    def holding(self) -> Tuple[List[str], List[str]]:
        """The functions that hold what a rewrite is for, themselves or in a function they name.

        Returns those that can be put in the place of their calls, callees first; and those that
        call themselves, or lead to one that does.
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
        for name in order:  # which grows meanwhile
            for caller in callers[name]:
                open_[caller] -= 1
                if not open_[caller]:
                    order.append(caller)
        return order, [name for name in open_ if open_[name]]

    def on_a_cycle(self, recursive: List[str]) -> str:
        """One of the functions that call themselves, of the second list of `holding`."""
        name, passed = recursive[0], set()
        while name not in passed:
            passed.add(name)
            callees = [c for node in self.functions[name].node_def for c in self.callees(node)]
            name = next(callee for callee in callees if callee in recursive)
        return name


def _is_of_interest(node: Any) -> bool:
    return is_cross_entropy(node) or is_primitive(node) or _is_guard(node)


def _is_guard(node: Any) -> bool:
    if node.op != _tf.GUARD_OP:
        return False
    return "message" in node.attr and _tf.guards_cross_entropy(node)


class Body:
    """A function's body as the nodes of a GraphDef.

    Attributes:
      arguments, result_types: the ArgDefs of the signature.
      results: references to what is returned, in order.
      control_results: the nodes that have to run before the function returns.
    """

    def __init__(self, function: Any, library: Library):
        self.name = function.signature.name
        self.where = f"{library.where}: function `{self.name}`"
        self.arguments = list(function.signature.input_arg)
        self.result_types = list(function.signature.output_arg)
        nodes = [_argument_node(a, i, self.where) for i, a in enumerate(self.arguments)]
        nodes += function.node_def
        by_name: Dict[str, Any] = {}
        for node in nodes:
            if by_name.setdefault(node.name, node) is not node:
                raise GraphFileError(f"{self.where}: two nodes are named `{node.name}`.")
        for node in function.node_def:
            if node.op == ARGUMENT:
                raise GraphFileError(f"{self.where}: node `{node.name}` is of the op `{ARGUMENT}`.")

        def flat(reference):
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
                raise GraphFileError(f"{self.where} does not say what it returns: `{result.name}`.")
            self.results.append(flat(function.ret[result.name]))
        control = getattr(function, "control_ret", {})  # TF 1.13 knows none
        self.control_results = [control[key] for key in sorted(control)]
        for name in self.control_results:
            if name not in by_name:
                raise GraphFileError(f"{self.where}: it waits for `{name}`, which is not there.")

    def wiring(self) -> Wiring:
        """Which of the nodes reads which."""
        return Wiring(self.nodes, self.where)

    def put_into(self, function: Any, library: Library) -> None:
        """Makes the nodes those of a FunctionDef, whose signature and attributes stay."""
        by_name = {node.name: node for node in self.nodes}

        def nested(reference):
            return _nested(reference, by_name, library, self.where)

        del function.node_def[:]
        for node in by_name.values():
            if node.op != ARGUMENT:
                added = function.node_def.add()
                added.CopyFrom(node)
                added.input[:] = [nested(reference) for reference in node.input]
        for result, reference in zip(self.result_types, self.results):
            function.ret[result.name] = nested(reference)


def _argument_node(argument: Any, position: int, where: str) -> Any:
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


def _flat(reference: str, by_name: Dict[str, Any], library: Library, where: str) -> str:
    """A reference of a FunctionDef as one of a GraphDef."""
    name = reference[1:] if reference.startswith("^") else reference
    if name in by_name and (name != reference or by_name[name].op == ARGUMENT):
        return reference
    match = _OUTPUT.fullmatch(reference)
    if match is not None and match.group("node") in by_name:
        node = by_name[match.group("node")]
        index = int(match.group("index") or 0)
        offset, count = _outputs(node, library, where).get(match.group("output"), (0, 0))
        if node.op == ARGUMENT or index < count:
            return join_reference(node.name, offset + index)
    raise GraphFileError(f"{where}: `{reference}` is read, which is not there.")


def _nested(reference: str, by_name: Dict[str, Any], library: Library, where: str) -> str:
    """A reference of a GraphDef as one of a FunctionDef."""
    name, index = split_reference(reference)
    if index == CONTROL or by_name[name].op == ARGUMENT:
        return reference
    for output, (offset, count) in _outputs(by_name[name], library, where).items():
        if offset <= index < offset + count:
            return f"{name}:{output}:{index - offset}"
    raise GraphFileError(f"{where}: `{reference}` is read, which is not there.")


def _outputs(node: Any, library: Library, where: str) -> Dict[str, Tuple[int, int]]:
    """By name: the first index and the number of the tensors of each output of a node."""
    if node.op == ARGUMENT:
        return {}
    definition = library.definition(node.op)
    if definition is None:
        raise RewriteError(
            f"{where}: node `{node.name}` is of the op `{node.op}`, which this TensorFlow does not "
            "know, so that its outputs cannot be counted. Load the library that has it first."
        )
    outputs, offset = {}, 0
    for output in definition.output_arg:
        count = 1
        if output.number_attr:
            count = _attribute(node, definition, output.number_attr, where).i
        elif output.type_list_attr:
            count = len(_attribute(node, definition, output.type_list_attr, where).list.type)
        outputs[output.name] = offset, max(count, 0)
        offset += max(count, 0)
    return outputs


def _attribute(node: Any, definition: Any, name: str, where: str) -> Any:
    if name in node.attr:
        return node.attr[name]
    for attribute in definition.attr:
        if attribute.name == name:
            return attribute.default_value
    raise GraphFileError(f"{where}: node `{node.name}`, {node.op}, has no attribute `{name}`.")
