"""Finds the step that went wrong, and the variables before it, by running the last steps again."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from tf1xent._tf import tf
from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.replaying.copies import Copy, training_ops
from tf1xent.diagnostics.replaying.step import Step
from tf1xent.diagnostics.watching.snapshots import is_finite


class Rewound(NamedTuple):
    """The first step that is not all right when some are run again.

    Attributes:
      position: which of the steps.
      variables: their values before it.
    """

    position: int
    variables: Dict[str, np.ndarray]


def rewind(
    program: Program,
    variables: Dict[str, np.ndarray],
    data: Sequence[Dict[str, np.ndarray]],
    seen: Callable[[int, Dict[str, np.ndarray], Dict[str, np.ndarray]], None],
) -> Rewound:
    """Runs steps again until one is not all right, or the last is reached.

    Grappler works on them as in the program's own session, so the variables are those of the
    program up to rounding; random numbers, as of dropout, are others.

    Args:
      program: a `Program`.
      variables: their values before the first of the steps.
      data: by name of a tensor, what it was fed with, or gave, in each step.
      seen: gets the position of each step that is all right, and the variables before and after.
    """
    last = len(data) - 1
    if last < 1:
        return Rewound(max(last, 0), variables)
    gradients = [u.gradient.name for u in program.updates if u.gradient is not None]
    watched = list(dict.fromkeys([program.loss.name, *gradients]))
    copy = Copy(program)
    try:
        copy.load(variables)
        for position, feeds in enumerate(data[:-1]):
            after = _after(copy, program, Step(None, feeds, {}), watched)
            if after is None:
                return Rewound(position, variables)
            seen(position, variables, after)
            variables = {**variables, **after}
    finally:
        copy.close()
    return Rewound(last, variables)


def _after(
    copy: Copy, program: Program, step: Step, watched: List[str]
) -> Optional[Dict[str, Any]]:
    """Returns the variables after a step, or None if the step is not all right."""
    try:
        values = copy.run(step, [*watched, *training_ops(program)], load=False)
    except tf.errors.OpError:
        return None
    after = copy.read(list(program.variables))
    # Operations have no value.
    found = {str(i): np.asarray(value) for i, value in enumerate(values) if value is not None}
    healthy = is_finite(found, list(found)) and is_finite(after, program.trainable)
    return after if healthy else None
