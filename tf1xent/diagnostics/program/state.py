"""What keeps values from one run, or one round, to another: variables, stacks, accumulators."""

import re
from typing import Dict, List, Set

from tf1xent import _tf
from tf1xent.diagnostics.program.wiring import ARGUMENT, Wiring

VARIABLES = (*_tf.VARIABLES, "AutoReloadVariable")
# What hands out data that another run would not see again.
DATA = re.compile(
    r"Placeholder(V2|WithDefault)?|\w*Iterator\w*GetNext\w*|\w*QueueDequeue\w*|ReaderRead\w*"
    r"|(Eager)?PyFunc(Stateless)?|Unstage|(Ordered)?MapUnstage\w*|_?Recv|LookupTableExportV2"
)
DRAWS = re.compile(
    r"(Parameterized)?TruncatedNormal|RandomUniform\w*|RandomStandardNormal|RandomGamma"
    r"|RandomPoisson\w*|RandomShuffle|Multinomial|Stateful(Standard|Truncated|Uniform|Random)\w*|RandomDataset\w*|RandomBinomial"
    r"|\w*CandidateSampler|RngReadAndSkip"
)
_STACKS = ("Stack", "StackV2")
_ACCUMULATORS = re.compile(r"(Resource|Sparse)?(Conditional)?Accumulator")
_WRITES = re.compile(
    r"Assign\w*|(Resource)?(Sparse)?Apply\w+|(Resource)?Scatter\w+|StackPush(V2)?"
    r"|(Resource|Sparse)?AccumulatorApplyGradient|ResourceStridedSliceAssign|StridedSliceAssign"
)
# What hands on a reference or a handle that it reads.
_HANDS_ON = re.compile(
    r"(Ref)?(Identity|Switch|Merge|Enter|Exit|NextIteration)|(Assign|Scatter|(Sparse)?Apply)\w+"
)


class Roots:
    """Which variables, stacks and accumulators the handles and references of a graph mean.

    Attributes:
      writers: by the name of such an op, the names of the nodes that write to it.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._known: Dict[str, Set[str]] = {}
        self.writers: Dict[str, List[str]] = {}
        for node in wiring.nodes.values():
            if node.inputs and _WRITES.fullmatch(node.op_type):
                for root in self.of(node.inputs[0]):
                    self.writers.setdefault(root, []).append(node.name)

    def of(self, tensor: str) -> Set[str]:
        """Returns the names of the ops that a handle or a reference leads to."""
        if tensor in self._known:
            return self._known[tensor]
        waiting, seen, found = [tensor], set(), set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            node = self._wiring.node_of(name)
            if is_root(node.op_type):
                found.add(node.name)
            elif node.op_type == ARGUMENT or node.name in self._wiring.called:
                waiting += self._wiring.sources(name)
            elif _HANDS_ON.fullmatch(node.op_type):
                merges = node.op_type.endswith("Merge")
                waiting += node.inputs if merges else node.inputs[:1]
        self._known[tensor] = found
        return found


def is_root(op_type: str) -> bool:
    """Tells whether ops of a type keep values."""
    return op_type in VARIABLES + _STACKS or bool(_ACCUMULATORS.fullmatch(op_type))
