"""Cures that are tried: the same step once more, with one thing changed."""

from typing import Any, Callable, NamedTuple, Optional, Tuple

import numpy as np

from tf1xent._tf import tf
from tf1xent._typing import GraphDef
from tf1xent.diagnostics.finding import Trial
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.replaying.recording import Recording
from tf1xent.diagnostics.replaying.replay import Replaced, Replay
from tf1xent.diagnostics.replaying.step import Step


class Outcome(NamedTuple):
    """What came out of a step.

    Attributes:
      text: it, in words.
      is_fine: whether the loss and all gradients are finite.
    """

    text: str
    is_fine: bool


def outcome(evidence: Evidence, recording: Recording) -> Outcome:
    """Returns what came out of a run of the step."""
    if recording.loss is None:
        return Outcome(f"the run ends with an error: {recording.error}", False)
    updates = evidence.program.updates
    gradients = {u.gradient_name for u in updates if u.gradient_name is not None}
    rounds = [recording.of(name) for name in gradients]
    bad = sum(any(record.is_bad for record in records) for records in rounds)
    loss = np.asarray(recording.loss)
    shown = f"the loss is {loss:.6g}" if loss.ndim == 0 else f"the loss is {loss.tolist()}"
    if bad:
        shown += f" and {bad} of {len(gradients)} gradients are not finite"
    elif gradients:
        shown += " and all gradients are finite"
    return Outcome(shown, bool(np.all(np.isfinite(loss))) and not bad)


def with_step(evidence: Evidence, change: str, step: Step) -> Trial:
    """Tries other data or other values of the variables."""
    return _compared(evidence, change, evidence.replay.run(step))


def with_values(evidence: Evidence, change: str, replaced: Replaced) -> Optional[Trial]:
    """Tries other values of tensors inside the graph; None where they cannot be replaced."""
    if not replaced or any(not evidence.recording.of(name) for name in replaced):
        return None
    recording = _recorded(evidence, lambda: Replay(evidence.program, replaced))
    return None if recording is None else _compared(evidence, change, recording)


def in_float32(evidence: Evidence) -> Optional[Tuple[Trial, Recording]]:
    """Tries the whole step with float32 in the place of float16; returns the recording too."""
    recording = _recorded(evidence, lambda: Replay(evidence.program, None, _widen))
    if recording is None:
        return None
    change = "float32 in the place of float16, everywhere"
    return _compared(evidence, change, recording), recording


def _widen(definition: GraphDef) -> None:
    """Makes every float16 of a graph a float32, the constants with their values."""
    nodes = [*definition.node]
    nodes += [node for function in definition.library.function for node in function.node_def]
    for node in nodes:
        for value in node.attr.values():
            _widen_attribute(value)
    for function in definition.library.function:
        signature = function.signature
        for argument in [*signature.input_arg, *signature.output_arg]:
            if argument.type == tf.float16.as_datatype_enum:
                argument.type = tf.float32.as_datatype_enum


def _widen_attribute(value: Any) -> None:
    half, single = tf.float16.as_datatype_enum, tf.float32.as_datatype_enum
    if value.type == half:
        value.type = single
    for position, entry in enumerate(value.list.type):
        if entry == half:
            value.list.type[position] = single
    if value.tensor.dtype == half:
        wide = tf.make_ndarray(value.tensor).astype(np.float32)
        value.tensor.CopyFrom(tf.make_tensor_proto(wide))


def _recorded(evidence: Evidence, make: Callable[[], Replay]) -> Optional[Recording]:
    try:
        with make() as replay:
            return replay.run(evidence.step)
    except (tf.errors.OpError, ValueError, TypeError):  # a graph that cannot be changed so
        return None


def _compared(evidence: Evidence, change: str, recording: Recording) -> Trial:
    before, after = outcome(evidence, evidence.recording), outcome(evidence, recording)
    return Trial(change, before.text, after.text, after.is_fine and not before.is_fine)


def held_at(bound: float) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that holds values between -bound and bound."""

    def hold(value: np.ndarray) -> np.ndarray:
        return np.asarray(np.clip(value, -bound, bound), value.dtype)

    return hold
