"""LossDoctorHook in an Estimator, as long as TensorFlow has them."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.watching.trainings import IMAGES, LABELS, Training
from tf1xent.diagnostics import LossDoctorHook

pytestmark = pytest.mark.skipif(
    not hasattr(tf, "estimator"), reason="this TensorFlow has no Estimators"
)


EVALUATIONS = []


def model(features, labels, mode):
    training = Training(images=features, labels=labels)
    # In an evaluation the loss is in no collection.
    EVALUATIONS.append(LossDoctorHook(training.loss, (), summary_every=1))
    return tf.estimator.EstimatorSpec(
        mode, loss=training.loss, train_op=training.train, evaluation_hooks=EVALUATIONS[-1:]
    )


def inputs(images):
    def read():
        data = tf.data.Dataset.from_tensor_slices((images, LABELS[: len(images)]))
        return data.batch(32).repeat()

    return read


def test_train_and_evaluate_are_watched_without_arguments(tmp_path):
    images = IMAGES[:640].copy()
    images[9 * 32 + 4, 7] = np.nan
    estimator = tf.estimator.Estimator(model, str(tmp_path))
    hook = LossDoctorHook(on_problem="stop", summary_every=1, snapshot_every=4)
    estimator.train(inputs(IMAGES[:640]), hooks=[hook], steps=6)
    assert hook.diagnoses == []
    try:
        estimator.train(inputs(images), hooks=[hook], steps=12)
    except tf.train.NanLossDuringTrainingError:
        pass  # the Estimator's own hook, where no relu hides the NaN
    assert [(d.cause, d.step, d.findings[0].row) for d in hook.diagnoses] == [
        ("inputs not finite", 15, 4)
    ]
    estimator.evaluate(inputs(images), steps=12)
    causes = [d.cause for d in EVALUATIONS[-1].diagnoses]
    # Where no relu hides it, the NaN is in the parameters since, and there is no checkpoint of it.
    assert causes == ["inputs not finite"]
