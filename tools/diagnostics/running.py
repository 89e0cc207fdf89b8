"""Runs a recipe by a bare session, without any tool: what the program itself shows."""

import contextlib
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

import numpy as np

import tf1xent
from diagnostics import data, models
from diagnostics.recipes import Recipe
from tf1xent import _tf
from tf1xent._tf import tf

# A state that lasts this many steps counts as one.
LASTING = 50
# A loss of a few times this is what float32 makes of 0: one digit of the 1 in log(1 + ...).
_ROUNDING = 1.2e-7


class Symptom(NamedTuple):
    """What is wrong with a run, seen without any tool.

    Attributes:
      kind: "error", "loss" or "parameters" (not finite), "zero" (loss, but for rounding),
        "unchanged"; or empty.
      step: the step of it.
      error: the message that ended the run.
      losses: the loss of each step.
    """

    kind: str
    step: Optional[int]
    error: str
    losses: List[float]


class Fed(NamedTuple):
    """Placeholders of a batch."""

    features: Any
    labels: Any
    weights: Any

    def of(self, batch: data.Batch) -> Dict[Any, np.ndarray]:
        return dict(zip(self, batch))


def placeholders(model: str) -> Fed:
    """Makes the placeholders in the default graph."""
    shape = data.SHAPES[model]
    steps = [data.SIDE] if model == "tagger" else []
    return Fed(
        tf.placeholder(tf.float32, [None, *shape], "features"),
        tf.placeholder(tf.int32, [None, *steps], "labels"),
        tf.placeholder(tf.float32, [None, *steps], "weights"),
    )


@contextlib.contextmanager
def graph_of(recipe: Recipe) -> Iterator[Any]:
    """Makes a graph the default one, with the plan's control flow and patch."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_control_flow(recipe.plan.control_flow))
        if recipe.plan.patch:
            stack.enter_context(tf1xent.patched())
        graph = tf.Graph()
        stack.enter_context(graph.as_default())
        tf.set_random_seed(recipe.plan.seed)
        yield graph


@contextlib.contextmanager
def _control_flow(version: str) -> Iterator[None]:
    if not hasattr(tf, "control_flow_v2_enabled"):  # TensorFlow 1.13 has version 1 only
        yield
        return
    switches = {True: tf.enable_control_flow_v2, False: tf.disable_control_flow_v2}
    before = tf.control_flow_v2_enabled()
    switches[version == "v2"]()
    try:
        yield
    finally:
        switches[before]()


def session() -> Any:
    """Returns a session on the default graph; one thread, as many runs share the machine."""
    return tf.Session(config=configuration())


def configuration() -> Any:
    return tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)


def floating() -> List[Any]:
    """Returns all variables of the default graph that can be NaN."""
    return [v for v in tf.global_variables() if v.dtype.base_dtype.is_floating]


def run_plain(recipe: Recipe) -> Symptom:
    """Trains, up to the first step that shows that something is wrong."""
    with graph_of(recipe):
        fed = placeholders(recipe.plan.model)
        built = models.build(recipe, *fed)
        variables = floating()
        values = [v.value() for v in variables]
        kept = {v.op.name: i for i, v in enumerate(variables) if v in tf.trainable_variables()}
        fetches = [built.loss, built.update] if recipe.runs_update else [built.loss]
        with session() as running:
            running.run(tf.global_variables_initializer())
            losses: List[float] = []
            last: List[np.ndarray] = running.run(values)
            since = dict.fromkeys(kept, 0)
            for step, batch in enumerate(recipe.batches(), 1):
                try:
                    losses.append(float(running.run(fetches, fed.of(batch))[0]))
                except tf.errors.OpError as error:
                    return Symptom("error", step, _tf.error_line(error), losses)
                now = running.run(values)
                if not np.isfinite(losses[-1]):
                    return Symptom("loss", step, "", losses)
                if not all(np.isfinite(value).all() for value in now):
                    rest = [fed.of(batch) for batch in recipe.batches()[step:]]
                    losses += _losses(running, fetches, rest)
                    return Symptom("parameters", step, "", losses)
                for name, i in kept.items():
                    since[name] = since[name] + 1 if np.array_equal(now[i], last[i]) else 0
                last = now
                if recipe.between_steps is not None:
                    recipe.between_steps(running, step, built)
    return _lasting(losses, since)


def _losses(running: Any, fetches: Any, feeds: List[Dict[Any, np.ndarray]]) -> List[float]:
    """Returns the losses of the remaining steps: some tools wait for them."""
    losses = []
    with contextlib.suppress(tf.errors.OpError):
        for fed in feeds:
            losses.append(float(running.run(fetches, fed)[0]))
    return losses


def _lasting(losses: List[float], since: Dict[str, int]) -> Symptom:
    if losses and max(map(abs, losses[-10:])) <= _ROUNDING:
        return Symptom("zero", len(losses), "", losses)
    if max(since.values(), default=0) >= LASTING:
        return Symptom("unchanged", len(losses), "", losses)
    return Symptom("", None, "", losses)
