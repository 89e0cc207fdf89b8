"""A step in two replicas of a MirroredStrategy, run again; prints JSON.

A process of its own: the number of logical devices is chosen before TensorFlow starts.
"""

import inspect
import json

import numpy as np
import tensorflow.compat.v1 as tf

from tests.diagnostics.programs import IMAGES, LABELS, descent, weights, without_grappler
from tests.metrics.distributed_program import mirrored_strategy
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.replaying.replay import Replay
from tf1xent.diagnostics.replaying.step import Step, no_history


def replica(batch):
    """A loss by hand, and its training op."""
    images, labels = batch
    probabilities = tf.nn.softmax(images @ weights("w", [64, 10]))
    loss = -tf.reduce_mean(tf.reduce_sum(tf.one_hot(labels, 10) * tf.log(probabilities), 1))
    with tf.control_dependencies([descent(loss)]):
        return tf.identity(loss)


def built(strategy):
    """Returns the loss of a step."""
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).repeat().batch(6)
    with strategy.scope():
        iterator = strategy.make_dataset_iterator(data)
        losses = strategy.experimental_run(replica, iterator)
        has_axis = "axis" in inspect.signature(strategy.reduce).parameters
        options = {"axis": None} if has_axis else {}
        loss = strategy.reduce(tf.distribute.ReduceOp.MEAN, losses, **options)
    return loss, iterator


def main():
    """Runs a step, and again; and once more with a bad weight."""
    tf.disable_eager_execution()
    strategy = mirrored_strategy()
    with tf.Graph().as_default() as graph:
        loss, iterator = built(strategy)
        program = Program(graph, loss)
        options = without_grappler()
        options.device_count["CPU"] = 2
        with tf.Session(config=options) as session:
            session.run([iterator.initialize(), tf.global_variables_initializer()])
            before = session.run(program.variables)
            value, data = session.run([loss, {t.name: t for t in program.sources}])
            after = session.run(program.variables)
        step = Step(1, data, before, value)
        with Replay(program) as replay:
            again = replay.run(step, update=True)
            bad = {name: np.full_like(v, 1e4 * v) for name, v in before.items()}
            evidence = Evidence(program, step._replace(variables=bad), no_history(), replay)
    found = {
        "trainable": program.trainable,
        "updated": [u.variable for u in program.updates if u.gradient is not None],
        "sources": len(program.sources),
        "same_loss": bool(again.loss == value),
        "same_variables": all(np.array_equal(again.variables[n], after[n]) for n in after),
        "origins": [o.record.op_type for o in evidence.origins if o.in_loss],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
