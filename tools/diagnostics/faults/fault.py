"""A row of the table of faults, and what several faults share."""

from typing import Any, Callable, NamedTuple, Tuple

import numpy as np

from diagnostics.data import Batch
from diagnostics.recipes import Recipe
from tf1xent._tf import tf

ALL = ("MLP", "CNN", "tagger")


class Fault(NamedTuple):
    """One way in which a training goes wrong.

    Attributes:
      cause: the true cause, the name of a row of `tf1xent.diagnostics.CAUSES`.
      name: as in "NaN pixel".
      why: why that is the cause, in a clause.
      also: another cause that is right too, but not counted; empty where there is none.
      plant: changes a `Recipe`.
      models: the models in which it can be planted.
      keras: whether a Keras model can have it.
      estimator: whether an Estimator can have it.
      shows: the kind of `Symptom` that it must have to be one; any, if empty.
      needs: "" or what TensorFlow must do for the fault to be one: the name of a probe.
    """

    cause: str
    name: str
    why: str
    also: str
    plant: Callable[[Recipe], None]
    models: Tuple[str, ...] = ALL
    keras: bool = True
    estimator: bool = True
    shows: str = ""
    needs: str = ""


def in_batch(recipe: Recipe, change: Callable[[Batch], Batch]) -> None:
    """Changes the batch of the planned step only."""
    when = recipe.plan.when
    recipe.change_batch = lambda step, batch: change(batch) if step == when else batch


def louder(recipe: Recipe) -> None:
    """Some rows of one batch are not divided by 16, or by 255 twice that: numbers far too large.

    Nothing is wrong with such numbers in a sound model; a formula that cannot bear them fails.
    """
    # Units that saturate would make them small again.
    recipe.activation = tf.nn.relu
    factor = recipe.rng.choice([16.0, 255.0]) * recipe.strength
    count = recipe.rng.randint(1, recipe.plan.rows + 1)

    def change(batch: Batch) -> Batch:
        features = batch.features.copy()
        features[:count] *= np.float32(factor)
        return batch._replace(features=features)

    in_batch(recipe, change)


def sharper(recipe: Recipe) -> Callable[[Any], Any]:
    """Returns logits -> logits, divided by a temperature that falls from the planned step on."""
    factor, when = 100 * recipe.strength, recipe.plan.when

    def change(logits: Any) -> Any:
        step = tf.train.get_or_create_global_step()
        return logits * tf.where(step >= when - 1, tf.constant(factor), tf.constant(1.0))

    return change


def confident(recipe: Recipe) -> None:
    """Makes logits far apart at the planned step: by their temperature, or by larger numbers."""
    if recipe.rng.randint(2) or recipe.plan.driver == "keras":
        louder(recipe)
    else:
        recipe.logits = sharper(recipe)


def row_of(recipe: Recipe, batch: Batch) -> int:
    """Returns a row."""
    return int(recipe.plan.seed * 7 + 3) % len(batch.features)
