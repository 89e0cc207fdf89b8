"""The MLP and the CNN as Keras models on TensorFlow 1.x; the one module that needs it."""

import contextlib
from typing import Any, Dict, List

import numpy as np

from diagnostics import data
from diagnostics.recipes import Recipe, shapes_of
from diagnostics.running import configuration, graph_of
from tf1xent._tf import tf
from tf1xent.diagnostics import Diagnosis, LossDoctorCallback


def train(recipe: Recipe, options: Dict[str, Any]) -> List[Diagnosis]:
    """Trains by `fit`, a batch a step, with the doctor among the callbacks."""
    keras = tf.keras
    with graph_of(recipe):
        keras.backend.set_session(tf.Session(config=configuration()))
        try:
            model = _model(recipe)
            model.compile(_optimizer(recipe), loss=_loss(recipe))
            values = recipe.values()
            model.set_weights([values[name] for name in shapes_of(recipe.plan)])
            callback = LossDoctorCallback(**options)
            with contextlib.suppress(tf.errors.OpError):
                _fit(model, recipe, callback)
            return callback.diagnoses
        finally:
            keras.backend.set_session(None)


def _fit(model: Any, recipe: Recipe, callback: Any) -> None:
    """Shows the batches one by one, as arrays or by a generator."""
    batches = [(b.features, b.labels[:, np.newaxis]) for b in recipe.batches()]
    if recipe.plan.seed % 2:
        shown = (batch for batch in batches)
        model.fit_generator(shown, len(batches), callbacks=[callback], verbose=0, workers=0)
    else:
        features, labels = map(np.concatenate, zip(*batches))
        size, options = len(batches[0][0]), {"shuffle": False, "verbose": 0}
        model.fit(features, labels, size, callbacks=[callback], **options)


def _model(recipe: Recipe) -> Any:
    layers, plan = tf.keras.layers, recipe.plan
    given = layers.Input(data.SHAPES[plan.model])
    x = layers.Lambda(recipe.features)(given)
    if plan.model == "MLP":
        for _ in range(plan.depth):
            x = layers.Dense(plan.hidden, activation=recipe.activation)(x)
    else:
        x = layers.Conv2D(plan.hidden, 3, padding="same", activation=recipe.activation)(x)
        x = layers.Flatten()(layers.MaxPooling2D(2)(x))
    x = layers.Lambda(recipe.between)(x)
    x = layers.Lambda(recipe.logits)(layers.Dense(data.CLASSES)(x))
    return tf.keras.Model(given, x)


def _loss(recipe: Recipe) -> Any:
    def loss(labels: Any, logits: Any) -> Any:
        return recipe.losses(logits, tf.cast(tf.reshape(labels, [-1]), tf.int32))

    return loss


def _optimizer(recipe: Recipe) -> Any:
    optimizers, rate = tf.keras.optimizers, recipe.rate(None)
    if recipe.optimizer is tf.train.AdamOptimizer or recipe.plan.optimizer == "Adam":
        return optimizers.Adam(rate)
    return optimizers.SGD(rate, momentum=0.9 if recipe.plan.optimizer == "Momentum" else 0.0)
