"""Cases of pooling and dilation."""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.second_order.checking import Case
from tf1xent import _tf

RANDOM = np.random.RandomState(7)
# Linear pieces: any step that stays on one will do.
COARSE = {np.float64: {}, np.float32: dict(step=1e-2, tolerance=1e-5)}


def apart(*shape, dtype=np.float64):
    """Return an array whose elements are 0.1 apart, so that no maximum moves within a step."""
    return (RANDOM.permutation(int(np.prod(shape))).reshape(shape) / 10).astype(dtype)


def knows(op_type, attribute):
    definition = _tf.op_definition(op_type)
    return definition is not None and attribute in {a.name for a in definition.attr}


def with_argmax(ksize, strides, padding, options):
    def pool(x):
        counts = options.get("include_batch_in_index")
        known = counts is None or knows("MaxPoolWithArgmax", "include_batch_in_index")
        return _tf.raw_op("MaxPoolWithArgmax")(
            input=x,
            ksize=[1, *ksize, 1],
            strides=[1, *strides, 1],
            padding=padding,
            **(options if known else {}),
        )[0]

    return pool


ARGMAX = [
    Case(
        f"{ksize} {strides} {padding} {sorted(options)} {np.dtype(dtype)}",
        "MaxPoolGradWithArgmax",
        with_argmax(ksize, strides, padding, options),
        (apart(2, 4, 5, 3, dtype=dtype),),
        composition=lambda x, ksize=ksize, strides=strides, padding=padding: tf.nn.max_pool(
            x, [1, *ksize, 1], [1, *strides, 1], padding
        ),
        static=padding == "VALID",
        third=strides == (2, 2),
        **COARSE[dtype],
    )
    for ksize, strides, padding, options, dtype in (
        ((2, 2), (2, 2), "VALID", {}, np.float64),
        ((3, 2), (1, 1), "SAME", {}, np.float32),
        ((3, 3), (2, 1), "SAME", {}, np.float64),
        ((4, 5), (1, 1), "VALID", {}, np.float64),
        ((2, 3), (2, 2), "SAME", {"include_batch_in_index": True}, np.float64),
    )
]


def gradient_v2(ksize, strides, padding):
    """The first gradient of MaxPoolV2 as a function, so that a gradient of it is the one above."""

    def function(x, c):
        window = dict(ksize=[1, *ksize, 1], strides=[1, *strides, 1], padding=padding)
        maxima = _tf.raw_op("MaxPoolV2")(input=x, **window)
        return _tf.raw_op("MaxPoolGradV2")(orig_input=x, orig_output=maxima, grad=c, **window)

    return function


V2 = [
    Case(
        f"{ksize} {strides} {padding}",
        "MaxPoolGradGradV2",
        gradient_v2(ksize, strides, padding),
        (apart(1, 4, 4, 2), RANDOM.normal(size=[1, *shape, 2])),
    )
    for ksize, strides, padding, shape in (
        ((2, 2), (2, 2), "VALID", (2, 2)),
        ((2, 3), (1, 2), "SAME", (4, 2)),
    )
]


def fractional(op_type, ratio, options):
    return lambda x: _tf.raw_op(op_type)(
        value=x, pooling_ratio=[1.0, *ratio, 1.0], deterministic=True, seed=3, seed2=4, **options
    )[0]


FRACTIONAL = [
    Case(
        f"{ratio} {sorted(options)} {np.dtype(dtype)}",
        f"{op_type}Grad",
        fractional(op_type, ratio, options),
        (apart(*shape, dtype=dtype),),
        third="overlapping" in options,
        **COARSE[dtype],
    )
    for op_type in ("FractionalMaxPool", "FractionalAvgPool")
    for shape, ratio, options, dtype in (
        ((2, 5, 7, 2), (1.4, 1.73), {}, np.float64),
        ((1, 7, 6, 3), (1.5, 1.2), {"overlapping": True}, np.float64),
        ((1, 6, 4, 1), (2.0, 1.0), {"overlapping": True, "pseudo_random": True}, np.float32),
    )
]


def dilation(strides, rates, padding):
    return lambda x, f: _tf.raw_op("Dilation2D")(
        input=x, filter=f, strides=[1, *strides, 1], rates=[1, *rates, 1], padding=padding
    )


def dilated_by_hand(size, strides, rates):
    """Dilation with the padding VALID, by a slice for each place of the window."""

    def function(x, f):
        rows, columns = (tf.shape(x)[axis + 1] - (size[axis] - 1) * rates[axis] for axis in (0, 1))
        slices = [
            x[:, i * rates[0] :, j * rates[1] :][:, : rows : strides[0], : columns : strides[1]]
            + f[i, j]
            for i in range(size[0])
            for j in range(size[1])
        ]
        return tf.reduce_max(tf.stack(slices), axis=0)

    return function


DILATION = [
    Case(
        f"{shape} {size} {strides} {rates} {padding} {np.dtype(dtype)}",
        f"Dilation2DBackprop{place}",
        dilation(strides, rates, padding),
        (apart(*shape, dtype=dtype), (apart(*size, shape[3], dtype=dtype) / 30).astype(dtype)),
        composition=dilated_by_hand(size, strides, rates) if padding == "VALID" else None,
        static=rates != (2, 2),
        third=strides == (2, 1),
        **COARSE[dtype],
    )
    # The first gradient of each has both ops.
    for place, shape, size, strides, rates, padding, dtype in (
        ("Filter", (2, 4, 5, 2), (2, 3), (1, 1), (1, 1), "SAME", np.float64),
        ("Input", (1, 6, 5, 2), (3, 2), (2, 1), (1, 2), "VALID", np.float64),
        ("Input", (1, 5, 5, 1), (2, 2), (2, 3), (2, 2), "SAME", np.float32),
        ("Filter", (1, 1, 1, 1), (1, 1), (1, 1), (1, 1), "VALID", np.float64),
        # The window of a single pixel lies in the padding alone.
        ("Input", (1, 1, 3, 1), (2, 2), (1, 1), (2, 1), "SAME", np.float64),
    )
]

CASES = [*ARGMAX, *V2, *FRACTIONAL, *DILATION]
