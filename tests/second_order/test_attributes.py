"""The gradients of convolutions keep the attributes that no CPU runs: channels first, dilation."""

import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.second_order.checking import as_an_old_graph, gradients, skip_without_gap
from tf1xent import _tf

FLAT = dict(
    strides=[1, 1, 2, 1],
    padding="EXPLICIT",
    explicit_paddings=[0, 0, 0, 0, 1, 2, 2, 0],
    data_format="NCHW",
    dilations=[1, 1, 1, 2],
)
# 1.13 has no explicit paddings.
DEPTHWISE = dict(strides=[1, 1, 2, 2], padding="SAME", data_format="NCHW", dilations=[1, 1, 1, 1])
SOLID = dict(strides=[1, 2, 2, 1, 1], padding="VALID", dilations=[1, 1, 1, 1, 1])
# By gradient op: its attributes, and the shapes of the convolution's input, filter and output.
CONVOLUTIONS = {
    "Conv2DBackpropInputV2": (FLAT, [2, 3, 8, 7], [3, 2, 3, 4], [2, 4, 5, 7]),
    "Conv2DBackpropFilterV2": (FLAT, [2, 3, 8, 7], [3, 2, 3, 4], [2, 4, 5, 7]),
    "Conv3DBackpropInput": (SOLID, [1, 7, 5, 6, 2], [3, 3, 2, 2, 4], [1, 3, 2, 5, 4]),
    "Conv3DBackpropFilter": (SOLID, [1, 7, 5, 6, 2], [3, 3, 2, 2, 4], [1, 3, 2, 5, 4]),
    "DepthwiseConv2dNativeBackpropInput": (DEPTHWISE, [2, 3, 8, 6], [3, 2, 3, 2], [2, 6, 4, 3]),
    "DepthwiseConv2dNativeBackpropFilter": (DEPTHWISE, [2, 3, 8, 6], [3, 2, 3, 2], [2, 6, 4, 3]),
}


def made(op_type, attributes, shapes):
    """Return a gradient op and the tensors that it depends on."""
    x, w, c = (tf.placeholder(tf.float32, shape) for shape in shapes)
    arguments = dict(input=x, filter=w, out_backprop=c, **attributes)
    in_input = "Input" in op_type
    if op_type.startswith("Depthwise"):
        size = "input" if in_input else "filter"
        arguments[size + "_sizes"] = tf.shape(arguments.pop(size))
    return _tf.raw_op(op_type)(**arguments), [w if in_input else x, c]


@pytest.mark.parametrize("op_type", CONVOLUTIONS)
def test_attributes_are_kept(op_type):
    skip_without_gap(op_type)
    attributes, *shapes = CONVOLUTIONS[op_type]
    tf1xent.override_gradients()
    try:
        with tf.Graph().as_default():
            if "3D" in op_type:
                as_an_old_graph(9)
            gradient, points = made(op_type, attributes, shapes)
            found = gradients(gradient, points)
    finally:
        tf1xent.restore_gradients()
    for point, in_point in zip(points, found):
        assert "Conv" in in_point.op.type and in_point.shape.as_list() == point.shape.as_list()
        kept = {name: in_point.op.get_attr(name) for name in attributes}
        assert kept == {
            name: value.encode() if isinstance(value, str) else value
            for name, value in attributes.items()
        }
