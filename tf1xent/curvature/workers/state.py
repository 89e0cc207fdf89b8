"""What a graph keeps beside variables, which a worker does not have."""

from typing import Dict, Iterable, Iterator, Tuple

from tf1xent import _tf
from tf1xent._typing import Operation, Tensor
from tf1xent.curvature.models.feed_files import needed_ops

# What keeps a state under a name in the devices of a session has this attribute.
_NAMED_STATE = "shared_name"


def state_besides_variables(tensors: Iterable[Tensor], fed: Iterable[Tensor]) -> Dict[str, str]:
    """Returns, by name, the types of ops that need what only the program's own session has.

    These are tables, queues, iterators and readers, whose content is not sent; and functions in
    Python, which are in the process that made them.

    Args:
      tensors: what is fetched.
      fed: what is fed; ops that only these need do not run.
    """
    found = {}
    for op in needed_ops(tensors, fed):
        for op_type, is_named in _types(op):
            if (is_named and op_type not in _tf.VARIABLES) or "PyFunc" in op_type:
                found[str(op.name)] = op_type
    return dict(sorted(found.items()))


def _types(op: Operation) -> Iterator[Tuple[str, bool]]:
    """The types of an op and of those in the functions that it runs, and whether it has a name.

    A function gets tables and the like from outside, so there only the types count.
    """
    if _tf.is_defun_call(op) or op.type in _tf.TRACED_CALLS:
        for op_type in _tf.op_types_called(op):
            yield op_type, False
    elif _tf.runs_functions(op):
        for body in _tf.bodies(op):
            for inner in body.graph.get_operations():
                yield from _types(inner)
    else:
        yield str(op.type), _NAMED_STATE in op.node_def.attr
