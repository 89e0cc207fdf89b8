"""Cases of the derivatives of the gamma distribution in its shape."""

import numpy as np
import tensorflow.compat.v1 as tf
from scipy import special

from tests.second_order.checking import Case, differentiated_by
from tf1xent import _tf

SHAPES = np.array([[0.05], [0.4], [1.0], [7.3], [90.0]])
# Of each shape: in the lower tail, on both sides of it, and in the upper tail.
POINTS = SHAPES * [0.2, 0.95, 1.05, 2.5]
SHARES = np.array([0.1, 0.5, 0.97])


def quantiles(a):
    """The samples of some ranks, which depend on the shape as a random sample does."""

    def gradient(op, cotangent):
        slope = _tf.raw_op("RandomGammaGrad")(alpha=op.inputs[0], sample=op.outputs[0])
        return tf.reduce_sum(slope * cotangent, axis=1, keepdims=True)

    def ranked(values):
        return special.gammaincinv(np.float64(values), SHARES).astype(values.dtype)

    with differentiated_by(PyFunc=gradient, PyFuncStateless=gradient):
        samples = tf.py_func(ranked, [a], a.dtype, stateful=False)
    samples.set_shape([a.shape[0], len(SHARES)])
    return samples


CASES = [
    Case("", "IgammaGradA", tf.igamma, (SHAPES, POINTS), tolerance=1e-6),
    Case(
        "the other tail",
        "IgammaGradA",
        tf.igammac,
        (SHAPES, POINTS),
        tolerance=1e-6,
        static=False,
    ),
    Case("", "RandomGammaGrad", quantiles, (SHAPES,)),
    Case(
        "float32",
        "RandomGammaGrad",
        quantiles,
        (np.float32(SHAPES[3:]),),
        step=5e-2,
        tolerance=1e-2,
        third=False,
    ),
]
