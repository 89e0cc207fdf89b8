"""Streaming metrics in two replicas of a MirroredStrategy, beside tf.metrics; prints JSON.

A process of its own: the number of logical devices is chosen before TensorFlow starts.
"""

import json

import numpy as np
import tensorflow.compat.v1 as tf

from tests.metrics.calls import NAMES, NUM_BINS, K, stream
from tests.oracle.metric_reference import all_metrics
from tf1xent import metrics

IGNORED, NUM_CLASSES = -1, 4
STEPS, REPLICAS, ROWS = 3, 2, 5


def mirrored_strategy():
    """Two replicas on two CPUs, which 1.x names in the session's options."""
    configure = getattr(getattr(tf, "config", None), "set_logical_device_configuration", None)
    if configure is not None:
        cpu = tf.config.list_physical_devices("CPU")[0]
        configure(cpu, [tf.config.LogicalDeviceConfiguration()] * REPLICAS)
    return tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(REPLICAS)])


def batches():
    """Logits, labels and weights, [STEPS, REPLICAS, ROWS, ...]; replicas are unlike each other."""
    random = np.random.RandomState(3)
    shape = STEPS, REPLICAS, ROWS
    labels = random.randint(NUM_CLASSES, size=shape)
    labels[random.uniform(size=shape) < 0.25] = IGNORED
    labels[0, 1] = IGNORED  # nothing counts in one replica's first batch
    logits = random.normal(size=shape + (NUM_CLASSES,)) * 2
    logits[:, 0, :, 0] += 3.0
    return logits, labels, random.randint(1, 4, size=shape) / 2.0


def build(name, weighted, tensors):
    """The pair of the metric of that name, in one replica."""
    logits, labels, weights = tensors
    collections = {"metrics_collections": ["values"], "updates_collections": ["updates"]}
    if name == "stock":
        right = tf.equal(tf.argmax(logits, 1), labels)
        valid_rows = tf.cast(tf.not_equal(labels, IGNORED), tf.float64)
        weights = valid_rows * (weights if weighted else 1.0)
        return tf.metrics.mean(right, weights, **collections)
    return stream(
        name,
        labels,
        logits,
        ignore_label=IGNORED,
        weights=weights if weighted else None,
        **collections,
    )


def results(strategy, name, weighted):
    """What a program sees: values after every step, and what stands in the collections."""
    arrays = batches()
    per_replica = getattr(strategy, "experimental_local_results", None) or strategy.unwrap
    with tf.Graph().as_default(), strategy.scope():
        step = tf.placeholder(tf.int32, [])

        def replica():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            index = tf.stack([step, tf.convert_to_tensor(number, tf.int32)])
            return build(name, weighted, [tf.gather_nd(array, index) for array in arrays])

        value, update_op = strategy.extended.call_for_each_replica(replica)
        values, update = per_replica(value), strategy.group(per_replica(update_op))
        config = tf.ConfigProto(device_count={"CPU": REPLICAS}, allow_soft_placement=True)
        seen = []
        with tf.Session(config=config) as session:
            for _ in range(2):  # the second time anew
                session.run(tf.local_variables_initializer())
                seen.append(np.ravel(session.run(values)).tolist())
                for number in range(STEPS):
                    session.run(update, {step: number})
                    seen.append(np.ravel(session.run(values)).tolist())
        counts = {
            key: len(tf.get_collection(key))
            for key in (tf.GraphKeys.LOCAL_VARIABLES, tf.GraphKeys.METRIC_VARIABLES)
            + (tf.GraphKeys.GLOBAL_VARIABLES, "values", "updates")
        }
    return {"values": seen, "collections": counts}


def wanted(name, weighted):
    """The values over all rows of all replicas so far, as `results` lists them."""
    logits, labels, weights = batches()
    seen = []
    for steps in range(STEPS + 1):
        rows = [array[:steps].reshape((-1,) + array.shape[3:]) for array in (logits, labels)]
        valid_rows = rows[1] != IGNORED
        given = weights[:steps].ravel() if weighted else None
        found = all_metrics(rows[0], np.maximum(rows[1], 0), valid_rows, given, K, NUM_BINS)
        seen.append([float(found["accuracy" if name == "stock" else name])])
    return seen * 2


def refusal(strategy):
    """The error of a call outside of the replicas."""
    with tf.Graph().as_default(), strategy.scope():
        try:
            metrics.streaming_accuracy([0], [[1.0, 2.0]])
        except ValueError as error:
            return str(error)
    return None


if __name__ == "__main__":
    chosen = mirrored_strategy()
    report = {
        f"{name} {weighted}": {
            "got": results(chosen, name, weighted),
            "wanted": wanted(name, weighted),
        }
        for name in ("stock",) + NAMES
        for weighted in (False, True)
    }
    print(json.dumps({"metrics": report, "refusal": refusal(chosen)}))
