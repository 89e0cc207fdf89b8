"""What TensorFlow's own tools say of the same runs."""

import contextlib
import io
import re
import types
from typing import Any, Dict, NamedTuple, Optional

from diagnostics import models
from diagnostics.recipes import Recipe
from diagnostics.running import Symptom, graph_of, placeholders, session
from tf1xent._tf import tf

# How the two kinds of checks name an op.
_NAMED = re.compile(r"^(\S+) : Tensor had|node (\S+?)/CheckNumericsV2", re.M)


class Said(NamedTuple):
    """What a tool says of a run.

    Attributes:
      step: the step at which it raises an alarm, or None.
      op: the op or tensor that it names, or None.
      refused: why it could not be used, or empty.
    """

    step: Optional[int]
    op: Optional[str]
    refused: str = ""


def of_losses(symptom: Symptom) -> Dict[str, Said]:
    """Shows the losses of a run to the tools that watch nothing else."""
    with tf.Graph().as_default():
        hook = tf.train.NanTensorHook(tf.zeros([]), fail_on_nan_loss=False)
    callback = tf.keras.callbacks.TerminateOnNaN()
    callback._model = types.SimpleNamespace(stop_training=False)
    if getattr(callback, "model", None) is None:
        callback.model = callback._model
    context = tf.train.SessionRunContext(None, None)
    said: Dict[str, Said] = {"NanTensorHook": Said(None, None), "TerminateOnNaN": Said(None, None)}
    for step, loss in enumerate(symptom.losses, 1):
        hook.after_run(context, tf.train.SessionRunValues(loss, None, None))
        with contextlib.redirect_stdout(io.StringIO()):
            callback.on_batch_end(step, {"loss": loss})
        stopped = {"NanTensorHook": context.stop_requested}
        stopped["TerminateOnNaN"] = callback._model.stop_training
        for name, is_stopped in stopped.items():
            if is_stopped and said[name].step is None:
                said[name] = Said(step, None)
    return said


def check_numerics_ops(recipe: Recipe) -> Said:
    """Trains with `tf.add_check_numerics_ops()`, run with every step."""
    return _trained(recipe, lambda: [tf.add_check_numerics_ops()])


def enable_check_numerics(recipe: Recipe) -> Said:
    """Trains a graph that is built while `tf.debugging.enable_check_numerics` is on."""
    enable = getattr(tf.debugging, "enable_check_numerics", None)
    if enable is None:
        return Said(None, None, "not in this TensorFlow")
    enable()
    try:
        return _trained(recipe, lambda: [])
    finally:
        tf.debugging.disable_check_numerics()


def _trained(recipe: Recipe, checks: Any) -> Said:
    with graph_of(recipe):
        fed = placeholders(recipe.plan.model)
        try:
            built = models.build(recipe, *fed)
            fetches = [built.loss, *checks()]
        except Exception as error:  # whatever it is, there is no graph
            return Said(None, None, f"{type(error).__name__}: {str(error)[:100]}")
        fetches += [built.update] if recipe.runs_update else []
        with session() as running:
            step = 0
            try:
                running.run(tf.global_variables_initializer())
                for step, batch in enumerate(recipe.batches(), 1):
                    running.run(fetches, fed.of(batch))
                    if recipe.between_steps is not None:
                        recipe.between_steps(running, step, built)
            except tf.errors.OpError as error:
                return _from(step, error.message)
    return Said(None, None)


def _from(step: int, message: str) -> Said:
    """Returns what an error says; one that the program would have raised anyway says nothing."""
    found = _NAMED.search(message)
    return Said(None, None) if found is None else Said(step, found.group(1) or found.group(2))
