"""The function library of a graph: which functions are called where, and their bodies as nodes.

Inside a FunctionDef an output is called ``node:output_name:index``. `flattened` gives a body the
references of a GraphDef, its arguments as nodes of the op ``_Arg``; `unflattened` puts it back.
"""

from typing import Any, Dict, Iterator, List, Optional, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.errors import GraphFileError, RewriteError
from tf1xent.graphs.wiring import CONTROL, Wiring, join_reference, split_reference

ARGUMENT = "_Arg"
# Ops that call one function, with its attribute; in TF 1.x the call's op may also be its name.
_CALLS = {"PartitionedCall": "f", "StatefulPartitionedCall": "f"}


class Library:
    """The functions of a GraphDef by name."""

    def __init__(self, graph_def: Any, where: str):
        self.where = where
        self.functions: Dict[str, Any] = {}
        for function in graph_def.library.function:
            name = function.signature.name
            if name in self.functions:
                raise GraphFileError(f"{where}: two functions are named `{name}`.")
            self.functions[name] = function
        self._holding: Dict[str, bool] = {}

    def called(self, node: Any) -> Optional[str]:
        """The name of the function that a node calls and that is in the library, or None."""
        name = node.op
        if node.op in _CALLS and _CALLS[node.op] in node.attr:
            name = node.attr[_CALLS[node.op]].func.name
        return name if name in self.functions else None

    def used(self, node: Any) -> Iterator[str]:
        """The functions of the library that a node names: those called, and branches and bodies."""
        if node.op in self.functions:
            yield node.op
        for key in node.attr:
            value = node.attr[key]
            for named in [value.func] if value.HasField("func") else value.list.func:
                if named.name in self.functions:
                    yield named.name

    def definition(self, op_type: str) -> Optional[Any]:
        """The OpDef of an op type or of a call, or None where this TensorFlow does not know it."""
        if op_type in self.functions:
            return self.functions[op_type].signature
        return _tf.op_definition(op_type)

    def holding(self) -> List[str]:
        """The functions that hold a cross-entropy op or guard, themselves or by a call.

        A function comes after those that it calls.
        """
        order: List[str] = []
        for name in self.functions:
            self._find_holding(name, order)
        return order

    def _find_holding(self, start: str, order: List[str]) -> None:
        stack = [(start, iter(self._callees(start)))]
        open_ = {start}
        while stack:
            name, callees = stack[-1]
            callee = next((c for c in callees if c not in self._holding), None)
            if callee is None:
                stack.pop()
                open_.discard(name)
                if name not in self._holding:
                    function = self.functions[name]
                    holds = any(map(_is_cross_entropy, function.node_def))
                    holds = holds or any(self._holding[c] for c in self._callees(name))
                    self._holding[name] = holds
                    order += [name] if holds else []
            elif callee in open_:
                raise GraphFileError(f"{self.where}: function `{callee}` calls itself.")
            else:
                open_.add(callee)
                stack.append((callee, iter(self._callees(callee))))

    def _callees(self, name: str) -> List[str]:
        calls = (self.called(node) for node in self.functions[name].node_def)
        return [callee for callee in calls if callee is not None]


def _is_cross_entropy(node: Any) -> bool:
    if node.op == _tf.GUARD_OP:
        return _tf.guards_cross_entropy(node)
    return node.op in _tf.FUSED_OPS


class Body:
    """A function's body as the nodes of a GraphDef."""

    def __init__(self, function: Any, where: str):
        self.name = function.signature.name
        self.where = f"{where}: function `{self.name}`"
        self.graph_def = tf.GraphDef()
        self.arguments = list(function.signature.input_arg)
        self.result_types = list(function.signature.output_arg)
        # References to what is returned, in order; nodes that have to run before it returns.
        self.results: List[str] = []
        self.control_results = [
            function.control_ret[key] for key in sorted(getattr(function, "control_ret", ()))
        ]


def flattened(function: Any, library: Library) -> Body:
    """The body of a function with the references of a GraphDef."""
    body = Body(function, library.where)
    for position, argument in enumerate(body.arguments):
        if argument.number_attr or argument.type_list_attr:
            raise RewriteError(
                f"{body.where}: argument `{argument.name}` is a list of tensors, which is not "
                "supported in functions that hold a cross-entropy op."
            )
        node = body.graph_def.node.add(name=argument.name, op=ARGUMENT)
        if argument.type_attr:
            node.attr["T"].placeholder = argument.type_attr
        else:
            node.attr["T"].type = argument.type
        node.attr["index"].i = position
    body.graph_def.node.extend(function.node_def)
    by_name = {node.name: node for node in body.graph_def.node}

    def flat(reference):
        if reference.startswith("^"):
            return reference
        name, *output = reference.split(":")
        node = by_name.get(name)
        if node is None:
            raise GraphFileError(f"{body.where}: `{reference}` is read, which is not there.")
        if node.op == ARGUMENT:
            return name
        offset, count = _outputs(node, library, body.where).get(output[0] if output else "", (0, 0))
        index = int(output[1]) if len(output) == 2 and output[1].isdigit() else 0
        if index >= count or len(output) > 2:
            raise GraphFileError(f"{body.where}: `{reference}` is read, which is not there.")
        return join_reference(name, offset + index)

    for node in body.graph_def.node:
        node.input[:] = [flat(reference) for reference in node.input]
    for result in function.signature.output_arg:
        if result.name not in function.ret:
            raise GraphFileError(f"{body.where} does not say what its result `{result.name}` is.")
        body.results.append(flat(function.ret[result.name]))
    Wiring(body.graph_def.node, body.where).check()
    return body


def unflattened(body: Body, function: Any, library: Library) -> None:
    """Puts a body's nodes into a FunctionDef, whose signature and attributes stay."""
    by_name = {node.name: node for node in body.graph_def.node}

    def nested(reference):
        name, index = split_reference(reference)
        if index == CONTROL or by_name[name].op == ARGUMENT:
            return reference
        for output, (offset, count) in _outputs(by_name[name], library, body.where).items():
            if offset <= index < offset + count:
                return f"{name}:{output}:{index - offset}"
        raise GraphFileError(f"{body.where}: `{reference}` is read, which is not there.")

    del function.node_def[:]
    for node in body.graph_def.node:
        if node.op != ARGUMENT:
            added = function.node_def.add()
            added.CopyFrom(node)
            added.input[:] = [nested(reference) for reference in node.input]
    for result, reference in zip(function.signature.output_arg, body.results):
        function.ret[result.name] = nested(reference)


def _outputs(node: Any, library: Library, where: str) -> Dict[str, Tuple[int, int]]:
    """By name: the first index and the number of the tensors of each output of a node."""
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
            count = _attribute(node, definition, output.number_attr).i
        elif output.type_list_attr:
            count = len(_attribute(node, definition, output.type_list_attr).list.type)
        outputs[output.name] = offset, max(count, 0)
        offset += max(count, 0)
    return outputs


def _attribute(node: Any, definition: Any, name: str) -> Any:
    if name in node.attr:
        return node.attr[name]
    return next(a.default_value for a in definition.attr if a.name == name)
