"""Trains a recipe as programs do, with tf1xent's doctor watching: what it says is the answer."""

import contextlib
import shutil
import tempfile
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

import numpy as np

from diagnostics import data, models
from diagnostics.recipes import Recipe
from diagnostics.running import (
    LASTING,
    configuration,
    floating,
    graph_of,
    placeholders,
    session,
)
from tf1xent._tf import tf
from tf1xent.diagnostics import Diagnosis, LossDoctor, LossDoctorHook, diagnose

_OPTIONS = {"on_problem": "stop", "patience": LASTING}


class Answer(NamedTuple):
    """What tf1xent says of a run.

    Attributes:
      cause: the name of the first cause, or None.
      tensor: the tensor or variable that it names.
      step: the global step that it judged, or None.
      what: its sentence.
      others: the names of the causes after the first.
    """

    cause: Optional[str]
    tensor: Optional[str]
    step: Optional[int]
    what: str
    others: List[str]


def answer_of(diagnoses: List[Diagnosis]) -> Answer:
    """Returns the first alarm."""
    if not diagnoses:
        return Answer(None, None, None, "no alarm", [])
    first = diagnoses[0]
    if not first.findings:
        cause = None if first.problem is None else "no cause found"
        return Answer(cause, None, first.step, str(first.problem), [])
    found = first.findings[0]
    others = [finding.cause for finding in first.findings[1:]]
    return Answer(found.cause, found.tensor, first.step, found.what, others)


def ask(recipe: Recipe) -> Answer:
    """Trains, and returns what the doctor says."""
    return _DRIVERS[recipe.plan.driver](recipe)


# --- What is read ---------------------------------------------------------------------------------


def _dataset(recipe: Recipe) -> Any:
    shape = data.SHAPES[recipe.plan.model]
    steps = [data.SIDE] if recipe.plan.model == "tagger" else []
    shapes = ([None, *shape], [None, *steps], [None, *steps])
    types = (tf.float32, tf.int32, tf.float32)
    batches = [tuple(batch) for batch in recipe.batches()]
    return tf.data.Dataset.from_generator(lambda: iter(batches), types, shapes)


def _reading(recipe: Recipe) -> Any:
    """Returns (features, labels, weights) and a list of what to feed in each step."""
    if recipe.plan.reads == "dataset":
        return tf.data.make_one_shot_iterator(_dataset(recipe)).get_next(), None
    fed = placeholders(recipe.plan.model)
    return fed, [fed.of(batch) for batch in recipe.batches()]


def _feeds(fed: Optional[List[Dict[Any, np.ndarray]]], steps: int) -> List[Dict[Any, np.ndarray]]:
    return [{} for _ in range(steps)] if fed is None else fed


# --- Drivers --------------------------------------------------------------------------------------


def _by_diagnose(recipe: Recipe) -> Answer:
    """A bare loop, which keeps the variables from before each step; it asks at the first symptom.

    Without any symptom it asks at the end: the loss does not move.
    """
    with graph_of(recipe):
        fed = placeholders(recipe.plan.model)
        built = models.build(recipe, *fed)
        names = [v.op.name for v in tf.global_variables()]
        reads = [v.value() for v in tf.global_variables()]
        checked = {v.op.name for v in floating()}
        fetches = [built.loss, built.update] if recipe.runs_update else [built.loss]
        with session() as running:
            running.run(tf.global_variables_initializer())
            before = running.run(reads)
            for step, batch in enumerate(recipe.batches(), 1):
                feeds = fed.of(batch)
                try:
                    loss = running.run(fetches, feeds)[0]
                except tf.errors.OpError:
                    break
                after = running.run(reads)
                finite = [np.isfinite(v).all() for n, v in zip(names, after) if n in checked]
                if not np.isfinite(loss) or not all(finite):
                    break
                if recipe.between_steps is not None:
                    recipe.between_steps(running, step, built)
                    after = running.run(reads)
                before = after
            found = diagnose(
                running,
                built.loss,
                feeds,
                train_op=built.update,
                fetches=fetches,
                variables=dict(zip(names, before)),
            )
    return answer_of([found])


def _by_doctor(recipe: Recipe) -> Answer:
    """A bare loop in a `LossDoctor`."""
    with graph_of(recipe):
        read, fed = _reading(recipe)
        built = models.build(recipe, *read)
        fetches = [built.loss, built.update] if recipe.runs_update else [built.loss]
        with session() as running:
            running.run(tf.global_variables_initializer())
            with LossDoctor(running, built.loss, built.update, **_OPTIONS) as doctor:
                with contextlib.suppress(tf.errors.OpError):
                    for step, feeds in enumerate(_feeds(fed, recipe.steps), 1):
                        running.run(fetches, feeds)
                        if doctor.should_stop():
                            break
                        if recipe.between_steps is not None:
                            recipe.between_steps(running, step, built)
    return answer_of(doctor.diagnoses)


class _Between(tf.train.SessionRunHook):  # type: ignore[misc]
    """Does between steps what the recipe says."""

    def __init__(self, recipe: Recipe, built: models.Built) -> None:
        self._recipe, self._built, self._step = recipe, built, 0

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self._step += 1
        if self._recipe.between_steps is not None:
            self._recipe.between_steps(run_context.session, self._step, self._built)


def _by_monitored_session(recipe: Recipe) -> Answer:
    with graph_of(recipe):
        read, fed = _reading(recipe)
        built = models.build(recipe, *read)
        fetches = [built.loss, built.update] if recipe.runs_update else [built.loss]
        hook = LossDoctorHook(built.loss, built.update, **_OPTIONS)
        creator = tf.train.ChiefSessionCreator(config=configuration())
        hooks = [hook, _Between(recipe, built)]
        with contextlib.suppress(tf.errors.OpError):
            with tf.train.MonitoredSession(creator, hooks) as running:
                for feeds in _feeds(fed, recipe.steps):
                    if running.should_stop():
                        break
                    running.run(fetches, feeds)
        return answer_of(hook.diagnoses)


def _by_estimator(recipe: Recipe) -> Answer:
    hooks: List[Any] = []

    def model(features: Any, labels: Any, mode: str) -> Any:
        built = models.build(recipe, features["features"], labels, features["weights"])
        hooks.append(LossDoctorHook(built.loss, built.update, **_OPTIONS))
        between = _Between(recipe, built)
        return tf.estimator.EstimatorSpec(
            mode, loss=built.loss, train_op=built.update, training_hooks=[hooks[0], between]
        )

    def read() -> Any:
        return _dataset(recipe).map(lambda x, y, w: ({"features": x, "weights": w}, y))

    with graph_of(recipe), _folder() as folder:
        settings = tf.estimator.RunConfig(
            save_checkpoints_secs=None,
            save_summary_steps=None,
            log_step_count_steps=None,
            tf_random_seed=recipe.plan.seed,
            session_config=configuration(),
        )
        estimator = tf.estimator.Estimator(model, folder, settings)
        # NanTensorHook, which every Estimator has, ends it too.
        with contextlib.suppress(tf.errors.OpError, tf.train.NanLossDuringTrainingError):
            estimator.train(read, steps=recipe.steps)
    return answer_of(hooks[0].diagnoses)


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    folder = tempfile.mkdtemp()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _by_keras(recipe: Recipe) -> Answer:
    from diagnostics.keras_model import train

    return answer_of(train(recipe, _OPTIONS))


_DRIVERS: Dict[str, Callable[[Recipe], Answer]] = {
    "diagnose": _by_diagnose,
    "session": _by_doctor,
    "monitored": _by_monitored_session,
    "estimator": _by_estimator,
    "keras": _by_keras,
}
