"""What is wrong with a step, as the program itself would notice it: symptoms, no causes."""

from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional

import numpy as np

from tf1xent.diagnostics.judging.cross_entropies import is_perfect_fit
from tf1xent.diagnostics.program.program import Program, ancestors
from tf1xent.diagnostics.replaying.comparing import is_finite
from tf1xent.diagnostics.replaying.copies import total
from tf1xent.diagnostics.replaying.step import History

if TYPE_CHECKING:
    from tf1xent.diagnostics.judging.evidence import Evidence

# Of the trainable entries, the share from which on a model is said to stand still.
_MOST = 0.5
_PATIENCE = 50  # steps
_MOST_OF = 0.8
# A loss that has been so many times the first one for long.
_OFF = 3.0
_EXPLODED = 1e6
# A loss on one batch that has grown so much in a few steps of training on it.
_DIVERGED = 10.0


class Problem(NamedTuple):
    """A symptom.

    Attributes:
      kind: "error", "loss", "gradient", "parameters", "still", "grows" or "averages".
      text: what is wrong, as in "the loss is nan".
    """

    kind: str
    text: str


def problem_of(evidence: "Evidence") -> Optional[Problem]:
    """Returns what is wrong with a step, or None if nothing is."""
    step, recording = evidence.step, evidence.recording
    error = step.error or (recording.error if step.loss is None else None)
    if error is not None:
        return Problem("error", f"the step ends with an error: {error}")
    # What the program's own session computes: without grappler it may be something else.
    known = (step.loss, evidence.own.together, recording.loss)
    loss = next((value for value in known if value is not None), None)
    if loss is None or not is_finite(loss):
        return Problem("loss", f"the loss is {'missing' if loss is None else total(loss)}")
    return _of_variables(evidence, total(loss)) or _of_history(evidence)


def stands_still(program: Program, history: History, steps: int = _PATIENCE) -> Optional[str]:
    """Says that a model does not learn any more, or returns None.

    Args:
      program: a `Program`.
      history: the `History` of the steps.
      steps: for how many steps it has to stand still, or to be off.

    Returns:
      Such as "the loss is 2.3 at each of the last 50 steps", or None.
    """
    found = _lasting(program, history, steps)
    return None if found is None else found.text


def standing(program: Program, history: History, steps: int) -> Dict[str, int]:
    """Returns for how long the trainable variables that stand still have done so, by name."""
    counts = {
        name: max(history.unchanged.get(name, 0), history.zero_gradients.get(name, 0))
        for name in program.trainable
    }
    return {name: count for name, count in counts.items() if count >= max(steps, 1)}


def only_left_out(program: Program, history: History, steps: int) -> bool:
    """Tells whether all that stands still are variables that the optimizer is not given."""
    still = set(standing(program, history, steps)) & program.of_loss
    return bool(still) and not any(update.variable in still for update in program.updates)


def _lasting(program: Program, history: History, steps: int) -> Optional[Problem]:
    # Others, such as what Keras on TF 1.13 lists for its optimizers, are no part of the model.
    sizes = {name: size_of(program, name) for name in program.trainable if name in program.of_loss}
    still = {n: count for n, count in standing(program, history, steps).items() if n in sizes}
    share = sum(sizes[name] for name in still) / max(1, sum(sizes.values()))
    if still and max(share, len(still) / len(sizes)) >= _MOST:
        text = (
            f"{len(still)} of {len(sizes)} trainable variables ({share:.0%} of all entries) have "
            f"not moved, or had no gradient, for {min(still.values())} steps"
        )
        return Problem("still", text)
    losses, numbers = history.losses, history.steps
    if not len(losses) or len(numbers) != len(losses) or numbers[-1] - numbers[0] < steps - 1:
        return None
    last = losses[numbers > numbers[-1] - steps]
    if len(last) > 1 and is_finite(last) and len(np.unique(last)) == 1:
        return Problem("still", f"the loss is {last[0]:.6g} at each of the last {steps} steps")
    return None if history.same_batch else _far_above(history, steps)


def _far_above(history: History, steps: int) -> Optional[Problem]:
    """Tells of a loss that is far above the first ones, and does not come down."""
    losses, numbers = history.losses, history.steps
    lasting = int(_MOST_OF * steps)
    last = losses[numbers > numbers[-1] - lasting]
    first = losses[: min(5, len(losses) - len(last))]
    if not len(first) or not is_finite(last) or not is_finite(first) or np.median(first) <= 0:
        return None
    start, least = float(np.median(first)), float(last.min())
    if least < _OFF * start:
        return None
    text = f"the loss began at {start:.4g} and has been {least:.4g} or more for {lasting} steps"
    return Problem("grows", text)


def size_of(program: Program, name: str) -> int:
    """Returns the number of entries of a variable; 1 where the graph does not say."""
    shape = program.variables[name].shape if name in program.variables else None
    return 1 if shape is None else shape.num_elements() or 1


def forgotten_averages(program: Program) -> List[str]:
    """Returns the ops of UPDATE_OPS that a step of training does not run."""
    if program.train_ops is None:
        return []
    run = {op.name for op in ancestors(program.train_ops)}
    # The key of tf.GraphKeys.UPDATE_OPS.
    ops = [getattr(op, "op", op).name for op in program.graph.get_collection("update_ops")]
    return [name for name in ops if name not in run]


def _of_variables(evidence: "Evidence", loss: float) -> Optional[Problem]:
    bad_gradients = evidence.own.bad_gradients
    if bad_gradients:
        names = ", ".join(f"`{name}`" for name in bad_gradients[:3])
        more = f" and {len(bad_gradients) - 3} more" if len(bad_gradients) > 3 else ""
        text = f"the gradients of {names}{more} are not finite, though the loss is {loss:.6g}"
        return Problem("gradient", text)
    program, values = evidence.program, evidence.step.variables
    watched = list(dict.fromkeys([*program.trainable, *(u.variable for u in program.updates)]))
    bad = [name for name in watched if not is_finite(values.get(name, 0.0))]
    if bad:
        text = f"`{bad[0]}` is not finite, though the loss is {loss:.6g}"
        return Problem("parameters", text)
    if evidence.own.exploded:
        text = f"the update makes `{evidence.own.exploded[0]}` infinite or NaN"
        return Problem("parameters", f"{text}, though the loss is {loss:.6g}")
    return None


def _explodes(losses: np.ndarray) -> Optional[Problem]:
    """Tells of a loss beyond all measure of the first one."""
    if not len(losses) or not np.isfinite(losses[-1]) or not 0 < losses[0] < losses[-1] / _EXPLODED:
        return None
    return Problem("grows", f"the loss has gone from {losses[0]:.4g} to {losses[-1]:.4g}")


def _of_history(evidence: "Evidence") -> Optional[Problem]:
    program, history = evidence.program, evidence.history
    losses = history.losses
    steps = len(history.gradient_norms) if history.same_batch else _PATIENCE
    lasting = _lasting(program, history, steps) if len(losses) else None
    if not history.same_batch:
        lasting = lasting or _explodes(losses)
    if lasting is not None and evidence.own.together == 0 and is_perfect_fit(evidence):
        return None
    if lasting is not None:
        return lasting
    if not history.same_batch:
        return None
    if losses[-1] > _DIVERGED * max(losses[0], 1e-30) or not is_finite(losses):
        text = f"the loss goes from {losses[0]:.6g} to {losses[-1]:.6g} in {steps} steps"
        return Problem("grows", text + " on the same batch")
    forgotten = forgotten_averages(program)
    if forgotten:
        text = f"{len(forgotten)} ops of UPDATE_OPS are not run by `train_op`: {forgotten[0]}"
        return Problem("averages", text)
    return None
