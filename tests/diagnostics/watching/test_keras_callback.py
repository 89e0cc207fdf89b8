"""LossDoctorCallback, where Keras trains in graph mode."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.watching.trainings import IMAGES, LABELS


def has_graph_keras():
    version = getattr(tf.keras, "__version__", None)
    return version is None or int(version.split(".")[0]) < 3


# Keras of TF 1.13 feeds `fit` by tensors of its own, of which the row is not proved: it is None.
ROW = None if hasattr(tf.keras.Model, "_make_fit_function") else 4

pytestmark = pytest.mark.skipif(not has_graph_keras(), reason="Keras 3 has no graph mode")


def compiled(rate=0.0):
    tf.set_random_seed(1)
    layers = tf.keras.layers
    network = tf.keras.Sequential(
        [
            layers.Dense(16, activation="relu", input_shape=(64,)),
            layers.Dropout(rate),
            layers.Dense(10, activation="softmax"),
        ]
    )
    network.compile(tf.keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    return network


def fitted(callbacks, images=IMAGES[:640], data=False, rate=0.0, epochs=1):
    with tf.Graph().as_default(), tf.Session().as_default() as session:
        tf.keras.backend.set_session(session)
        network = compiled(rate)
        options = {"epochs": epochs, "verbose": 0, "callbacks": callbacks, "shuffle": False}
        if data == "generator":
            batches = [(images[i : i + 32], LABELS[i : i + 32]) for i in range(0, len(images), 32)]
            network.fit_generator((b for b in batches), len(batches), workers=0, **options)
        elif data:
            dataset = tf.data.Dataset.from_tensor_slices((images, LABELS[: len(images)]))
            network.fit(dataset.batch(32), steps_per_epoch=len(images) // 32, **options)
        else:
            network.fit(images, LABELS[: len(images)], batch_size=32, **options)
        weights = network.get_weights()
    return weights


def spoiled():
    images = IMAGES[:640].copy()
    images[9 * 32 + 4, 7] = np.nan
    return images


@pytest.mark.parametrize("data", [False, True, "generator"])
def test_it_names_the_batch_and_the_row(data):
    from tf1xent.diagnostics import LossDoctorCallback

    doctor = LossDoctorCallback(summary_every=1, snapshot_every=4)
    fitted([doctor], spoiled(), data)
    assert [(d.cause, d.step, d.findings[0].row) for d in doctor.diagnoses] == [
        ("inputs not finite", 9, ROW)
    ]


def test_stop_ends_fit_after_the_batch():
    from tf1xent.diagnostics import LossDoctorCallback

    class Counting(tf.keras.callbacks.Callback):
        batches = 0

        def on_batch_end(self, batch, logs=None):
            self.batches += 1

    doctor, counting = LossDoctorCallback(on_problem="stop", summary_every=1), Counting()
    fitted([doctor, counting], spoiled())
    assert (len(doctor.diagnoses), counting.batches) == (1, 10)


def test_the_weights_are_bit_by_bit_those_without_it():
    from tf1xent.diagnostics import LossDoctorCallback

    doctor = LossDoctorCallback(summary_every=2, snapshot_every=3)
    watched = fitted([doctor], rate=0.3, epochs=2)
    alone = fitted([], rate=0.3, epochs=2)
    assert [w.tobytes() for w in watched] == [w.tobytes() for w in alone]
    assert doctor.diagnoses == []
