"""The losses of `tf1xent._math.softmax` as native ops: the same values, derivatives and errors.

Loss, gradient and Hessian-vector product are ops of the library that `tf1xent.kernels` builds and
loads. Each op's gradient is registered under the op's own type and is made of the others. From the
third order on, derivatives are those of the graph version.

The ops take half and bfloat16 as they are and compute in float32. What has one number per row
(losses, scales, statistics) is then float32.

The formulas are in `tf1xent._math.softmax`; the ops and their arguments in ops/op_registrations.h.
"""

from typing import Any, List

from tf1xent import _tf, kernels
from tf1xent._math import softmax
from tf1xent._math.dtypes import precise_dtype
from tf1xent._math.labels import checked_by_gather, checked_label_values, label_classes, where_valid
from tf1xent._math.matrix import column, row_sum, scale_rows, take
from tf1xent._tf import Gradients, tf
from tf1xent._typing import Name, Operation, Tensor
from tf1xent.kernels import op_names


def _ops() -> Any:
    """The native library's op functions."""
    return kernels.library()


def _precise(*tensors: Tensor) -> List[Tensor]:
    """The tensors in the dtype that is computed in."""
    return [tf.cast(tensor, precise_dtype(tensor)) for tensor in tensors]


# --- Sparse labels ----------------------------------------------------------------------------


def sparse_loss(
    logits: Tensor, labels: Tensor, *, invalid_labels: str = "raise", name: Name = None
) -> Tensor:
    """Loss of integer labels [batch_size]: [batch_size], nats.

    A label out of range raises InvalidArgumentError in the run, in the words of TensorFlow's own
    op; with `invalid_labels` "nan" the row's loss and derivatives are NaN instead.
    """
    if invalid_labels == "raise":
        gathered = checked_by_gather(labels, lambda: tf.gather(logits, labels, batch_dims=1))
        labels = labels if gathered is None else gathered
    return _ops().tf1xent_kernel_sparse_loss(
        logits=logits,
        labels=labels,
        precise=precise_dtype(logits),
        invalid_labels=invalid_labels,
        name=name,
    )[0]


@_tf.gradient_of(op_names.SPARSE_LOSS)
def _(op: Operation, cotangent: Tensor, _: Tensor) -> Gradients:
    logits, labels = op.inputs
    gradient = _ops().tf1xent_kernel_sparse_gradient(
        logits=logits,
        labels=labels,
        scale=_tf.with_static_shape(cotangent, op.outputs[0].shape),
        statistics=op.outputs[1],
        invalid_labels=_policy(op),
    )
    return [gradient, None]


@_tf.gradient_of(op_names.SPARSE_GRADIENT)
def _(op: Operation, cotangent: Tensor) -> Gradients:
    cotangent = _tf.with_static_shape(cotangent, op.outputs[0].shape)
    logits, vectors = _precise(op.inputs[0], cotangent)
    valid, classes = label_classes(logits, _checked_labels(op))
    relative = vectors - column(take(vectors, classes))
    in_scale = where_valid(valid, softmax.mean(logits, relative))
    product = _ops().tf1xent_kernel_sparse_hessian_product(
        logits=op.inputs[0],
        labels=op.inputs[1],
        vectors=cotangent,
        scale=op.inputs[2],
        invalid_labels=_policy(op),
    )
    return [product, None, in_scale, None]


@_tf.gradient_of(op_names.SPARSE_HESSIAN_PRODUCT)
def _(op: Operation, cotangent: Tensor) -> Gradients:
    cotangent = _tf.with_static_shape(cotangent, op.outputs[0].shape)
    dtype = cotangent.dtype
    logits, vectors, cotangent = _precise(op.inputs[0], op.inputs[2], cotangent)
    valid, _ = label_classes(logits, _checked_labels(op))
    scale = where_valid(valid, op.inputs[3])
    in_logits, in_vectors, in_scale = softmax.hessian_product_gradient(
        cotangent, (logits, vectors, scale)
    )
    in_scale = where_valid(valid, in_scale)
    return [tf.cast(in_logits, dtype), None, tf.cast(in_vectors, dtype), in_scale]


def _policy(op: Operation) -> str:
    """The attribute `invalid_labels` of an op."""
    policy = op.get_attr("invalid_labels")
    return policy.decode() if isinstance(policy, bytes) else policy


def _checked_labels(op: Operation) -> Tensor:
    """The labels of an op; if its invalid ones raise, after the graph version's check of them."""
    logits, labels = op.inputs[:2]
    if _policy(op) == "nan":
        return labels
    return checked_label_values(_precise(logits)[0], labels)[0]


# --- Dense labels -----------------------------------------------------------------------------


def dense_loss(logits: Tensor, labels: Tensor, *, name: Name = None) -> Tensor:
    """Loss of label distributions [batch_size, num_classes]: [batch_size], nats."""
    return _ops().tf1xent_kernel_dense_loss(
        logits=logits, labels=labels, precise=precise_dtype(logits), name=name
    )[0]


@_tf.gradient_of(op_names.DENSE_LOSS)
def _(op: Operation, cotangent: Tensor, _: Tensor) -> Gradients:
    logits, labels = op.inputs
    arguments = {
        "logits": logits,
        "labels": labels,
        "scale": _tf.with_static_shape(cotangent, op.outputs[0].shape),
        "statistics": op.outputs[1],
    }
    in_logits = _ops().tf1xent_kernel_dense_gradient(**arguments)
    return [in_logits, _ops().tf1xent_kernel_label_gradient(**arguments)]


@_tf.gradient_of(op_names.DENSE_GRADIENT)
def _(op: Operation, cotangent: Tensor) -> Gradients:
    cotangent = _tf.with_static_shape(cotangent, op.outputs[0].shape)
    in_logits = _ops().tf1xent_kernel_dense_hessian_product(
        logits=op.inputs[0], labels=op.inputs[1], vectors=cotangent, scale=op.inputs[2]
    )
    logits, labels, vectors = _precise(*op.inputs[:2], cotangent)
    in_labels, in_scale = softmax.dense_gradient_in_labels_and_scale(
        vectors, (logits, labels, op.inputs[2])
    )
    return [in_logits, tf.cast(in_labels, cotangent.dtype), in_scale, None]


@_tf.gradient_of(op_names.LABEL_GRADIENT)
def _(op: Operation, cotangent: Tensor) -> Gradients:
    cotangent = _tf.with_static_shape(cotangent, op.outputs[0].shape)
    logits, labels, vectors = _precise(*op.inputs[:2], cotangent)
    in_logits, _, in_scale = softmax.label_gradient_gradient(
        vectors, (logits, labels, op.inputs[2])
    )
    return [tf.cast(in_logits, cotangent.dtype), None, in_scale, None]


@_tf.gradient_of(op_names.DENSE_HESSIAN_PRODUCT)
def _(op: Operation, cotangent: Tensor) -> Gradients:
    cotangent = _tf.with_static_shape(cotangent, op.outputs[0].shape)
    dtype = cotangent.dtype
    logits, labels, vectors, cotangent = _precise(*op.inputs[:3], cotangent)
    scale, label_sum = op.inputs[3], row_sum(labels)
    in_logits, in_vectors, in_scale = softmax.hessian_product_gradient(
        cotangent, (logits, vectors, scale * label_sum)
    )
    in_labels = scale_rows(in_scale * scale, tf.ones_like(labels))
    return [
        *(tf.cast(gradient, dtype) for gradient in (in_logits, in_labels, in_vectors)),
        in_scale * label_sum,
    ]


# In the statistics, a row of the batch is a column.
_tf.register_batch_ops([op_names.SPARSE_LOSS, op_names.DENSE_LOSS], outputs_by_column=[1])
_tf.register_batch_ops(
    [op_names.SPARSE_GRADIENT, op_names.DENSE_GRADIENT, op_names.LABEL_GRADIENT], by_column=[3]
)
_tf.register_batch_ops([op_names.SPARSE_HESSIAN_PRODUCT, op_names.DENSE_HESSIAN_PRODUCT])
