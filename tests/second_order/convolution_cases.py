"""Cases of convolutions. CPUs take channels last only, no dilation, and not the V2 of Conv2D."""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.second_order.checking import Case, as_an_old_graph, differentiated_by
from tf1xent import _tf

RANDOM = np.random.RandomState(8)
BILINEAR = dict(step=0.25, tolerance=1e-9)


def normal(*shape):
    return RANDOM.normal(size=shape)


def by_ops_of_both(in_input, in_filter):
    """A first gradient by two ops that take the input and the filter, not their shapes."""

    def gradient(op, cotangent):
        names = "strides padding explicit_paddings data_format dilations".split()
        arguments = dict(
            input=op.inputs[0],
            filter=op.inputs[1],
            out_backprop=cotangent,
            **_tf.attributes(op, *names),
        )
        if in_input.startswith("Conv3D"):
            del arguments["data_format"]
        return [_tf.raw_op(in_input)(**arguments), _tf.raw_op(in_filter)(**arguments)]

    return gradient


def conv3d(strides, padding):
    return lambda x, w: tf.nn.conv3d(x, w, strides=strides, padding=padding)


def old_conv3d(strides, padding):
    def function(x, w):
        as_an_old_graph(9)
        with differentiated_by(
            Conv3D=by_ops_of_both("Conv3DBackpropInput", "Conv3DBackpropFilter")
        ):
            return conv3d(strides, padding)(x, w)

    return function


def conv2d(strides, padding, explicit=()):
    return lambda x, w: _tf.raw_op("Conv2D")(
        input=x, filter=w, strides=strides, padding=padding, explicit_paddings=list(explicit)
    )


def conv2d_v2(*arguments):
    def function(x, w):
        with differentiated_by(
            Conv2D=by_ops_of_both("Conv2DBackpropInputV2", "Conv2DBackpropFilterV2")
        ):
            return conv2d(*arguments)(x, w)

    return function


def depthwise(stride, padding):
    return lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, stride, stride, 1], padding)


def channel_by_channel(stride, padding):
    def function(x, w):
        strides = [1, stride, stride, 1]
        channels = zip(tf.split(x, x.shape[3], 3), tf.split(w, w.shape[2], 2))
        each = [tf.nn.conv2d(u, v, strides=strides, padding=padding) for u, v in channels]
        return tf.concat(each, 3)

    return function


CASES = [
    Case(
        f"{strides} {padding}",
        op_type,
        old_conv3d(strides, padding),
        (normal(2, 3, 4, 3, 2), normal(2, 2, 3, 2, 2)),
        composition=conv3d(strides, padding),
        static=padding == "SAME",
        **BILINEAR,
    )
    for op_type, strides, padding in (
        ("Conv3DBackpropInput", [1, 1, 2, 1, 1], "SAME"),
        ("Conv3DBackpropFilter", [1, 2, 1, 2, 1], "VALID"),
    )
]
CASES += [
    Case(
        f"{arguments}",
        op_type,
        conv2d_v2(*arguments),
        (normal(2, 5, 4, 2), normal(3, 2, 2, 3)),
        composition=conv2d(*arguments),
        runs=False,
        **BILINEAR,
    )
    for op_type, arguments in (
        ("Conv2DBackpropInputV2", ([1, 1, 1, 1], "VALID")),
        ("Conv2DBackpropInputV2", ([1, 2, 2, 1], "EXPLICIT", [0, 0, 1, 0, 2, 1, 0, 0])),
        ("Conv2DBackpropFilterV2", ([1, 2, 1, 1], "SAME")),
        ("Conv2DBackpropFilterV2", ([1, 1, 1, 1], "EXPLICIT", [0, 0, 1, 0, 2, 1, 0, 0])),
    )
]
CASES += [
    Case(
        f"{stride} {padding}",
        op_type,
        depthwise(stride, padding),
        (normal(2, 5, 4, 2), normal(3, 2, 2, 3)),
        composition=channel_by_channel(stride, padding),
        **BILINEAR,
    )
    for op_type, stride, padding in (
        ("DepthwiseConv2dNativeBackpropInput", 1, "VALID"),
        ("DepthwiseConv2dNativeBackpropFilter", 2, "SAME"),
    )
]
