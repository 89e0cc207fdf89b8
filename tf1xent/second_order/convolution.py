"""Gradients of the two gradients of a convolution, which is bilinear: y = x * w.

The gradient ops compute I(w, c) with <I(w, c), v> = <v * w, c>, and F(x, c) with
<F(x, c), u> = <x * u, c>. Each is linear in both its arguments, so their gradients are the three
ops again.
"""

from typing import Any, Dict, NamedTuple, Tuple

from tf1xent import _tf
from tf1xent._tf import GradientFunction, tf
from tf1xent._typing import Operation, Tensor
from tf1xent.second_order.table import supplies


class Convolution(NamedTuple):
    """A kind of convolution: its op, and TensorFlow's gradient ops of it that have gradients."""

    forward: str
    in_input: str
    in_filter: str


_ATTRIBUTES = ("strides padding explicit_paddings data_format dilations use_cudnn_on_gpu").split()


def _attributes(op: Operation) -> Dict[str, Any]:
    return _tf.attributes(op, *_ATTRIBUTES)


def _of_input_gradient(kind: Convolution) -> GradientFunction:
    """The gradient of I(w, c). The op's inputs are x (or its shape), w and c."""

    def gradient(op: Operation, cotangent: Tensor) -> Tuple[None, Tensor, Tensor]:
        _, w, c = op.inputs
        in_filter = _tf.raw_op(kind.in_filter)(
            input=cotangent, filter_sizes=tf.shape(w), out_backprop=c, **_attributes(op)
        )
        return (
            None,
            in_filter,
            _tf.raw_op(kind.forward)(input=cotangent, filter=w, **_attributes(op)),
        )

    return gradient


def _of_filter_gradient(kind: Convolution) -> GradientFunction:
    """The gradient of F(x, c). The op's inputs are x, w (or its shape) and c."""

    def gradient(op: Operation, cotangent: Tensor) -> Tuple[Tensor, None, Tensor]:
        x, _, c = op.inputs
        in_input = _tf.raw_op(kind.in_input)(
            input_sizes=tf.shape(x), filter=cotangent, out_backprop=c, **_attributes(op)
        )
        return (
            in_input,
            None,
            _tf.raw_op(kind.forward)(input=x, filter=cotangent, **_attributes(op)),
        )

    return gradient


_CONV2D = Convolution("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter")
_CONV3D = Convolution("Conv3D", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2")
_DEPTHWISE = Convolution(
    "DepthwiseConv2dNative",
    "DepthwiseConv2dNativeBackpropInput",
    "DepthwiseConv2dNativeBackpropFilter",
)
# By op type. TensorFlow's Conv2D and Conv3D make other gradient ops; these are from old graphs
# (Conv3D's) or from programs that name them.
_INPUT_GRADIENTS = {
    "Conv2DBackpropInputV2": (_CONV2D, ()),
    "Conv3DBackpropInput": (_CONV3D, ()),
    "DepthwiseConv2dNativeBackpropInput": (_DEPTHWISE, ("DepthwiseConv2dNative",)),
}
_FILTER_GRADIENTS = {
    "Conv2DBackpropFilterV2": (_CONV2D, ()),
    "Conv3DBackpropFilter": (_CONV3D, ()),
    "DepthwiseConv2dNativeBackpropFilter": (_DEPTHWISE, ("DepthwiseConv2dNative",)),
}

for _gradient_ops, _gradient in (
    (_INPUT_GRADIENTS, _of_input_gradient),
    (_FILTER_GRADIENTS, _of_filter_gradient),
):
    for _op_type, (_kind, _made_by) in _gradient_ops.items():
        _method = f"Bilinear: the gradients are {_kind.forward} and its gradients."
        supplies(_op_type, _made_by, _method)(_gradient(_kind))
