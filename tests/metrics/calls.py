"""What the tests of the metrics share: every metric by name, called with an argument of its own."""

import tensorflow.compat.v1 as tf

from tf1xent import metrics

K, NUM_BINS = 2, 7
NAMES = tuple(name for name in metrics.__all__ if not name.startswith("streaming_"))
OWN_ARGUMENTS = {"top_k_accuracy": {"k": K}, "expected_calibration_error": {"num_bins": NUM_BINS}}
# The values where no example is valid.
NOTHING = dict(dict.fromkeys(NAMES, 0), perplexity=1)


def call(metric, labels, logits, **options):
    """The metric of that name, with its own argument."""
    options = dict(OWN_ARGUMENTS.get(metric, {}), **options)
    return getattr(metrics, metric)(labels, logits, **options)


def stream(metric, labels, logits, **options):
    """The pair of the streaming metric of that name, with its own argument."""
    options = dict(OWN_ARGUMENTS.get(metric, {}), **options)
    return getattr(metrics, "streaming_" + metric)(labels, logits, **options)


def run(build, feed=None):
    """What ``build()`` returns, built and run in a graph of its own."""
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(build(), feed)


def values(labels, logits, **options):
    """All metrics of constants, by name."""
    return run(lambda: {name: call(name, labels, logits, **options) for name in NAMES})
