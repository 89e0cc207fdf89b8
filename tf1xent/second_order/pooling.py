"""Gradients of the gradients of pooling and dilation, which are piecewise linear.

A maximum sends the incoming gradient to one place of its window, and an average spreads it. Both
are linear in the incoming gradient: their own gradient reads the cotangent at these places, or
averages it. In the values it is 0, since the places do not move almost everywhere.
"""

from typing import Any, Optional, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.second_order.table import supplies
from tf1xent.second_order.windows import Spans, places_of_maxima, read, windows_of

_ARGMAX_ATTRIBUTES = ("ksize", "strides", "padding", "include_batch_in_index")


@supplies(
    "MaxPoolGradWithArgmax",
    ["MaxPoolWithArgmax"],
    "Linear in the incoming gradient: reads the cotangent at the maxima.",
)
def _max_pool_grad_with_argmax(op: Operation, cotangent: Tensor) -> Tuple[Tensor, Tensor, None]:
    values, incoming, argmax = op.inputs
    # Whether an index counts the batch depends on an attribute, in TensorFlow 1.13 on the device.
    # Its remainder by the size of one example does not.
    example = tf.reduce_prod(tf.shape(values, out_type=tf.int64)[1:])
    batch = tf.range(tf.shape(argmax, out_type=tf.int64)[0])[:, tf.newaxis, tf.newaxis, tf.newaxis]
    places = batch * example + tf.cast(argmax, tf.int64) % example
    in_incoming = _tf.with_static_shape(read(cotangent, places), incoming.shape)
    return tf.zeros_like(values), in_incoming, None


@supplies(
    "MaxPoolGradGradWithArgmax", [], "Linear in the incoming gradient: MaxPoolGradWithArgmax."
)
def _max_pool_grad_grad_with_argmax(
    op: Operation, cotangent: Tensor
) -> Tuple[Tensor, Tensor, None]:
    values, _, argmax = op.inputs
    attributes = _tf.attributes(op, *_ARGMAX_ATTRIBUTES)
    scatter = _tf.raw_op("MaxPoolGradWithArgmax")
    in_incoming = scatter(input=values, grad=cotangent, argmax=argmax, **attributes)
    return tf.zeros_like(values), in_incoming, None


@supplies("MaxPoolGradGradV2", ["MaxPoolGradV2"], "Linear in the incoming gradient: MaxPoolGradV2.")
def _max_pool_grad_grad_v2(
    op: Operation, cotangent: Tensor
) -> Tuple[Tensor, Tensor, Tensor, None, None]:
    values, maxima, _, ksize, strides = op.inputs
    in_incoming = _tf.raw_op("MaxPoolGradV2")(
        orig_input=values,
        orig_output=maxima,
        grad=cotangent,
        ksize=ksize,
        strides=strides,
        **_tf.attributes(op, "padding", "data_format"),
    )
    return tf.zeros_like(values), tf.zeros_like(maxima), in_incoming, None, None


def _fractional_spans(op: Operation, incoming: Tensor, lengths: Tensor) -> Tuple[Spans, Spans]:
    """The windows: each begins where the one before ends, or if they overlap, with its last place.

    `lengths` is the shape of the values.
    """

    def spans(axis: int, sequence: Tensor) -> Spans:
        # A sequence is longer by 1 than TensorFlow's static shape says, so it is not sliced.
        windows = tf.range(tf.shape(incoming)[axis])
        starts = tf.cast(tf.gather(sequence, windows), tf.int32)
        ends = tf.cast(tf.gather(sequence, windows + 1), tf.int32)
        ends = tf.minimum(ends + int(op.get_attr("overlapping")), tf.cast(lengths[axis], tf.int32))
        return Spans(starts, ends, tf.reduce_max(ends - starts))

    return spans(1, op.inputs[-2]), spans(2, op.inputs[-1])


@supplies(
    "FractionalMaxPoolGrad",
    ["FractionalMaxPool"],
    "Linear in the incoming gradient: reads the cotangent at the maxima.",
)
def _fractional_max_pool_grad(
    op: Operation, cotangent: Tensor
) -> Tuple[Tensor, Tensor, Tensor, None, None]:
    values, maxima, incoming, _, _ = op.inputs
    places, _ = places_of_maxima(values, *_fractional_spans(op, incoming, tf.shape(values)))
    in_incoming = _tf.with_static_shape(read(cotangent, places), incoming.shape)
    return tf.zeros_like(values), tf.zeros_like(maxima), in_incoming, None, None


@supplies(
    "FractionalAvgPoolGrad",
    ["FractionalAvgPool"],
    "Linear: the gradient averages the cotangent over the same windows.",
)
def _fractional_avg_pool_grad(op: Operation, cotangent: Tensor) -> Tuple[None, Tensor, None, None]:
    shape, incoming, _, _ = op.inputs
    gathered, inside = windows_of(cotangent, *_fractional_spans(op, incoming, shape))
    weights = tf.cast(inside, cotangent.dtype)
    weights /= tf.reduce_sum(weights, axis=[1, 3], keepdims=True)
    averages = tf.reduce_sum(gathered * weights[..., tf.newaxis], axis=[2, 4])
    return None, _tf.with_static_shape(averages, incoming.shape), None, None


def _dilation_spans(op: Operation, axis: int) -> Spans:
    """The windows of a dilation along axis 1 or 2 of the images."""
    values, structure, incoming = op.inputs
    stride, rate = op.get_attr("strides")[axis], op.get_attr("rates")[axis]
    length, size = tf.shape(values)[axis], tf.shape(structure)[axis - 1]
    number = tf.shape(incoming)[axis]
    before: Any = 0
    if op.get_attr("padding") in (b"SAME", "SAME"):
        before = tf.maximum((number - 1) * stride + (size - 1) * rate + 1 - length, 0) // 2
    return Spans(tf.range(number) * stride - before, tf.fill([number], length), size, rate)


def _dilation_places(op: Operation) -> Tuple[Tensor, Tensor]:
    values, structure, _ = op.inputs
    return places_of_maxima(values, _dilation_spans(op, 1), _dilation_spans(op, 2), structure)


def _dilation_gradients(
    op: Operation, cotangent: Tensor, places: Tensor
) -> Tuple[Optional[Tensor], Optional[Tensor], Tensor]:
    values, structure, incoming = op.inputs
    in_incoming = _tf.with_static_shape(read(cotangent, places), incoming.shape)
    return tf.zeros_like(values), tf.zeros_like(structure), in_incoming


@supplies(
    "Dilation2DBackpropInput",
    ["Dilation2D"],
    "Linear in the incoming gradient: reads the cotangent at the maxima.",
)
def _dilation_2d_backprop_input(op: Operation, cotangent: Tensor) -> Any:
    return _dilation_gradients(op, cotangent, _dilation_places(op)[0])


@supplies(
    "Dilation2DBackpropFilter",
    ["Dilation2D"],
    "Linear in the incoming gradient: reads the cotangent at the maxima.",
)
def _dilation_2d_backprop_filter(op: Operation, cotangent: Tensor) -> Any:
    return _dilation_gradients(op, cotangent, _dilation_places(op)[1])
