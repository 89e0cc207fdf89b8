"""A side as something to build in a graph: a function whose parameters are told by their names."""

import inspect
import os
import traceback
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from tf1xent._tf import tf
from tf1xent._typing import DType, Session, Tensor
from tf1xent.verification.batches import Setting
from tf1xent.verification.kinds import (
    DEFAULT,
    KINDS,
    chosen_input,
    named_kind,
)

Shape = Sequence[Optional[int]]


class Parameter(NamedTuple):
    """An input of a program: its name, its kind, the user's shape for it, its dtype if fixed."""

    name: str
    kind: str
    shape: Optional[Tuple[str, ...]] = None
    dtype: Optional[DType] = None


class Program:
    """What builds a loss in the default graph.

    Attributes:
      name: as the user gave it.
      parameters: those that get something.
      names: of all parameters.
    """

    name: str
    parameters: List[Parameter]
    names: List[str]

    def build(
        self, dtype: str, dtypes: Dict[str, DType], shapes: Dict[str, Shape]
    ) -> Tuple[Tensor, Dict[str, Tensor]]:
        """Builds the loss in the default graph.

        Args:
          dtype: of the floating inputs of the batches.
          dtypes, shapes: of what is fed, by parameter.

        Returns:
          The loss, and the tensors to feed by parameter.
        """
        raise NotImplementedError

    def initialize(self, session: Session) -> None:
        """Gives the variables of a session's graph their values; adds ops to the graph."""
        graph = session.graph
        keys = (tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.LOCAL_VARIABLES)
        tables = graph.get_collection(tf.GraphKeys.TABLE_INITIALIZERS)
        variables = [v for key in keys for v in graph.get_collection(key)]
        session.run([v.initializer for v in variables])
        session.run(tables)

    def located(self, error: BaseException) -> str:
        """Returns an error in a line, with the place in the program that it came from."""
        return located(error, None)


class FunctionProgram(Program):
    """A function that builds a loss."""

    def __init__(self, function: Callable[..., Any], name: str, setting: Setting, side: str):
        self.name = name
        self._function = function
        self._num_classes = setting.num_classes
        self.parameters = _parameters(function, name, setting, side)
        self.names = list(inspect.signature(function).parameters)

    def build(
        self, dtype: str, dtypes: Dict[str, DType], shapes: Dict[str, Shape]
    ) -> Tuple[Tensor, Dict[str, Tensor]]:
        """Calls the function with placeholders."""
        inputs = {
            name: tf.placeholder(dtype, shapes[name], name=name) for name, dtype in dtypes.items()
        }
        numbers = {p.name: self._num_classes for p in self.parameters if p.name not in inputs}
        loss = self._function(**inputs, **numbers)
        if isinstance(loss, (list, tuple, dict)) or loss is None:
            raise TypeError(f"the loss must be one tensor, got {type(loss).__name__}")
        return checked_loss(tf.convert_to_tensor(loss)), inputs

    def located(self, error: BaseException) -> str:
        """Returns an error with the last line of the program's own file that was reached."""
        code = getattr(inspect.unwrap(self._function), "__code__", None)
        return located(error, code.co_filename if code is not None else None)


def checked_loss(loss: Tensor) -> Tensor:
    """Returns a loss; TypeError unless it is floating."""
    if not loss.dtype.base_dtype.is_floating:
        raise TypeError(f"the loss must be floating, got {loss.dtype.base_dtype.name}")
    return loss


def located(error: BaseException, path: Optional[str]) -> str:
    """Returns the type of an error, where in a file it came from, and its first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if path is not None and frame.filename == path]
    place = f" at {os.path.basename(own[-1].filename)}:{own[-1].lineno}" if own else ""
    return f"{type(error).__name__}{place}" + (f": {lines[0]}" if lines else "")


def _parameters(
    function: Callable[..., Any], name: str, setting: Setting, side: str
) -> List[Parameter]:
    """Returns what each parameter is; ValueError where that cannot be told."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: it must be a function with named parameters: {error}") from error
    there = signature.parameters.values()
    named = [p for p in there if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    wrong = [
        i.name
        for i in setting.inputs
        if i.side == side and i.name not in signature.parameters and len(named) == len(there)
    ]
    if wrong:
        raise ValueError(f"{name}: it has no parameter {wrong[0]!r}. {_listed(named)}")
    found = []
    for parameter in named:
        said = chosen_input(parameter.name, side, setting.inputs)
        kind = said.kind if said else named_kind(parameter.name, setting.labels)
        if kind is None and parameter.default is parameter.empty:
            raise ValueError(
                f"{name}: what its parameter {parameter.name!r} is cannot be told by its name. Say "
                f"--input {parameter.name}=KIND, with KIND one of {', '.join(KINDS)}."
            )
        if kind is not None and kind != DEFAULT:
            found.append(Parameter(parameter.name, kind, said.shape if said else None))
    check_kinds(found, name)
    return found


def check_kinds(parameters: Sequence[Parameter], name: str) -> None:
    """Raises a ValueError unless there is something to differentiate by, each kind once."""
    kinds = [p.kind for p in parameters if KINDS[p.kind].differentiated]
    if not kinds:
        raise ValueError(
            f"{name}: it takes neither logits nor probabilities. {_listed(parameters)}"
        )
    twice = [kind for kind in kinds if kinds.count(kind) > 1]
    if twice:
        both = [p.name for p in parameters if p.kind == twice[0]]
        raise ValueError(
            f"{name}: {' and '.join(map(repr, both))} are both {twice[0]}. Say --input NAME=KIND "
            "of one of them."
        )


def _listed(parameters: Sequence[Any]) -> str:
    return f"Its parameters: {', '.join(p.name for p in parameters) or 'none'}."
