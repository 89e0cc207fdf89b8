"""A training in two replicas of a MirroredStrategy, watched by a hook; prints JSON.

A process of its own: the number of logical devices is chosen before TensorFlow starts.
"""

import inspect
import json

import numpy as np
import tensorflow.compat.v1 as tf

from tests.diagnostics.watching.trainings import IMAGES, LABELS
from tests.metrics.distributed_program import mirrored_strategy
from tf1xent.diagnostics import LossDoctorHook

ROWS = 16  # of a step, in two replicas


def replica(batch):
    """A linear classifier and its training op."""
    images, labels = batch
    weights = tf.get_variable("weights", [64, 10], initializer=tf.zeros_initializer())
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=images @ weights)
    loss = tf.reduce_mean(losses)
    with tf.control_dependencies([tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)]):
        return tf.identity(loss)


def trained(is_watched, images):
    """Trains; returns the values of the variables and the hook."""
    strategy = mirrored_strategy()
    with tf.Graph().as_default():
        data = tf.data.Dataset.from_tensor_slices((images, LABELS)).repeat().batch(ROWS)
        with strategy.scope():
            iterator = strategy.make_dataset_iterator(data)
            losses = strategy.experimental_run(replica, iterator)
            # TF 1.13 has another name for it.
            local = getattr(strategy, "experimental_local_results", None) or strategy.unwrap
            train = list(local(losses))
            has_axis = "axis" in inspect.signature(strategy.reduce).parameters
            options = {"axis": None} if has_axis else {}
            loss = strategy.reduce(tf.distribute.ReduceOp.MEAN, losses, **options)
        start = iterator.initialize()
        reads = [variable.read_value() for variable in tf.global_variables()]
        hook = LossDoctorHook(loss, train, summary_every=1, snapshot_every=4)
        options = tf.ConfigProto(device_count={"CPU": 2}, allow_soft_placement=True)
        creator = tf.train.ChiefSessionCreator(
            tf.train.Scaffold(local_init_op=tf.group(start, tf.local_variables_initializer())),
            config=options,
        )
        hooks = [hook] if is_watched else []
        with tf.train.MonitoredSession(creator, hooks=hooks) as session:
            for _ in range(10):
                session.run([train, loss])
            values = session.run(reads)
    return values, hook


def main():
    """Trains with a NaN, and without one with and without the hook."""
    tf.disable_eager_execution()
    bad = IMAGES.copy()
    bad[7 * ROWS + 2, 9] = np.nan
    watched, silent = trained(True, IMAGES)
    alone, _ = trained(False, IMAGES)
    _, hook = trained(True, bad)
    alarms = [(d.cause, d.step, d.findings[0].row) for d in silent.diagnoses + hook.diagnoses]
    same = all(a.tobytes() == b.tobytes() for a, b in zip(watched, alone))
    print(json.dumps({"alarms": alarms, "same_variables": same}))


if __name__ == "__main__":
    main()
