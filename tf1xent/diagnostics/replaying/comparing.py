"""A step as the program's own session computes it: grappler may make other numbers of it.

Grappler rewrites what is fetched. So ``-log(softmax(x))`` fetched alone becomes one exact op and is
finite, with its gradients it is not; a relu that grappler fuses with its layer turns NaN into 0.
"""

from typing import Any, List, NamedTuple, Optional

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.diagnostics.replaying.copies import Copy, gradient_names, total
from tf1xent.diagnostics.replaying.recording import Recording
from tf1xent.diagnostics.replaying.step import Step


class OwnRun(NamedTuple):
    """What a session with grappler computes.

    Attributes:
      alone: the loss, fetched alone; None if that ends with an error.
      together: the loss, fetched with the gradients; None if that ends with an error.
      bad_gradients: the names of the variables whose gradients are not finite then.
      exploded: the names of the variables that the update makes infinite or NaN, though they and
        the gradients are finite.
      error: the message with which it ended, or None.
    """

    alone: Optional[float]
    together: Optional[float]
    bad_gradients: List[str]
    exploded: List[str]
    error: Optional[str] = None


def own_run(copy: Copy, step: Step) -> OwnRun:
    """Runs the loss of a step alone, and with its gradients."""
    loss, gradients = copy.program.loss.name, gradient_names(copy.program)
    alone, together, error = None, None, None
    bad: List[str] = []
    exploded: List[str] = []
    try:
        alone = total(copy.run(step, [loss])[0])
        fetched = copy.run(step, [loss, *gradients.values()])
        together = total(fetched[0])
        bad = [name for name, value in zip(gradients, fetched[1:]) if not is_finite(value)]
        if not bad and np.isfinite(together):
            after = copy.steps(step, 1).variables
            exploded = [n for n, v in after.items() if is_finite(v) < is_finite(step.variables[n])]
    except tf.errors.OpError as caught:
        error = _tf.error_line(caught)
    return OwnRun(alone, together, bad, exploded, error)


def how_it_ran(own: OwnRun, recording: Recording, seen: Optional[float]) -> str:
    """Says in which ways the step was run again, and which of them show the problem."""
    every_op = "every op by itself, without grappler"
    ways = {
        "with grappler, the loss fetched alone": own.alone,
        "with grappler, the loss and its gradients fetched": own.together,
        every_op: None if recording.loss is None else total(recording.loss),
    }
    if seen is not None:
        ways["in the step itself"] = seen
    known = {way: value for way, value in ways.items() if value is not None}
    if len({np.isfinite(value) for value in known.values()}) < 2:
        return every_op
    losses = "; ".join(f"{value:.6g} {way}" for way, value in known.items())
    return f"{every_op}. The loss depends on what is fetched, since grappler rewrites it: {losses}"


def is_finite(value: Any) -> bool:
    """Tells whether all entries of an array are finite; what is no floating number is."""
    array = np.asarray(value)
    if array.dtype.kind not in "fcV":
        return True
    # NumPy knows bfloat16 only as a foreign type.
    wide = array.astype(np.float32) if array.dtype.kind == "V" else array
    return bool(np.isfinite(wide).all())
