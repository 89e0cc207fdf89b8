"""The losses of `tf1xent._math.softmax` as native ops: the same values, derivatives and errors.

Loss, gradient and Hessian-vector product are ops of the library that `tf1xent.kernels` builds and
loads; each one's gradient, registered here under the op's own type, is made of the others. From the
third order on derivatives are those of the graph version. The ops take half and bfloat16 as they
are, and compute in float32; what is by row (losses, scales, statistics) is then float32.

The formulas are in `tf1xent._math.softmax`; the ops and their arguments in ops/tensorflow_ops.cc.
"""

from tf1xent import _tf, kernels
from tf1xent._math import softmax
from tf1xent._math.labels import checked_label_values, gathered_labels
from tf1xent._math.matrix import label_classes, row_sum, scale_rows, take, where_valid
from tf1xent._tf import tf


def _precise_dtype(tensor):
    return tf.float64 if tensor.dtype.base_dtype == tf.float64 else tf.float32


def _precise(*tensors):
    """The tensors in the dtype that is computed in."""
    return [tf.cast(tensor, _precise_dtype(tensor)) for tensor in tensors]


# --- Sparse labels ----------------------------------------------------------------------------


def sparse_loss(logits, labels, *, invalid_labels="raise", name=None):
    """Loss of integer labels [batch_size]: [batch_size], nats.

    A label out of range raises InvalidArgumentError in the run, in the words of TensorFlow's own
    op; with `invalid_labels` "nan" the row's loss and derivatives are NaN instead. With op
    determinism on TensorFlow's function gathers instead of calling its op, and says so.
    """
    if invalid_labels == "raise" and _tf.op_determinism_enabled():
        labels = gathered_labels(labels, tf.gather(logits, labels, batch_dims=1))
    return kernels.library().tf1xent_kernel_sparse_loss(
        logits=logits,
        labels=labels,
        precise=_precise_dtype(logits),
        invalid_labels=invalid_labels,
        name=name,
    )[0]


def _policy(op):
    policy = op.get_attr("invalid_labels")
    return policy.decode() if isinstance(policy, bytes) else policy


def _sparse_loss_gradient(op, cotangent, _):
    logits, labels = op.inputs
    gradient = kernels.library().tf1xent_kernel_sparse_gradient(
        logits=logits,
        labels=labels,
        scale=_tf.with_static_shape(cotangent, op.outputs[0].shape),
        statistics=op.outputs[1],
        invalid_labels=_policy(op),
    )
    return [gradient, None]


def _sparse_hessian_product(op, vectors):
    return kernels.library().tf1xent_kernel_sparse_hessian_product(
        logits=op.inputs[0],
        labels=op.inputs[1],
        vectors=vectors,
        scale=op.inputs[2],
        invalid_labels=_policy(op),
    )


def _checked_labels(op):
    """The labels, with the graph version's check of their values where invalid ones raise."""
    logits, labels = op.inputs[:2]
    if _policy(op) == "nan":
        return labels
    return checked_label_values(_precise(logits)[0], labels)[0]


def _sparse_gradient_gradient(op, cotangent):
    cotangent = _tf.with_static_shape(cotangent, op.outputs[0].shape)
    logits, vectors = _precise(op.inputs[0], cotangent)
    valid, classes = label_classes(logits, _checked_labels(op))
    relative = vectors - take(vectors, classes)[:, tf.newaxis]
    in_scale = where_valid(valid, softmax.mean(logits, relative))
    return [_sparse_hessian_product(op, cotangent), None, in_scale, None]


def _sparse_hessian_product_gradient(op, cotangent):
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


# --- Dense labels -----------------------------------------------------------------------------


def dense_loss(logits, labels, *, name=None):
    """Loss of label distributions [batch_size, num_classes]: [batch_size], nats."""
    return kernels.library().tf1xent_kernel_dense_loss(
        logits=logits, labels=labels, precise=_precise_dtype(logits), name=name
    )[0]


def _dense_loss_gradient(op, cotangent, _):
    logits, labels = op.inputs
    scale = _tf.with_static_shape(cotangent, op.outputs[0].shape)
    library = kernels.library()
    return [
        function(logits=logits, labels=labels, scale=scale, statistics=op.outputs[1])
        for function in (
            library.tf1xent_kernel_dense_gradient,
            library.tf1xent_kernel_label_gradient,
        )
    ]


def _dense_gradient_gradient(op, cotangent):
    cotangent = _tf.with_static_shape(cotangent, op.outputs[0].shape)
    in_logits = kernels.library().tf1xent_kernel_dense_hessian_product(
        logits=op.inputs[0], labels=op.inputs[1], vectors=cotangent, scale=op.inputs[2]
    )
    logits, labels, vectors = _precise(*op.inputs[:2], cotangent)
    in_labels, in_scale = softmax.dense_gradient_in_labels_and_scale(
        vectors, (logits, labels, op.inputs[2])
    )
    return [in_logits, tf.cast(in_labels, cotangent.dtype), in_scale, None]


def _label_gradient_gradient(op, cotangent):
    cotangent = _tf.with_static_shape(cotangent, op.outputs[0].shape)
    logits, labels, vectors = _precise(*op.inputs[:2], cotangent)
    in_logits, _, in_scale = softmax.label_gradient_gradient(
        vectors, (logits, labels, op.inputs[2])
    )
    return [tf.cast(in_logits, cotangent.dtype), None, in_scale, None]


def _dense_hessian_product_gradient(op, cotangent):
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


for _op_type, _gradient in (
    ("Tf1xentKernelSparseLoss", _sparse_loss_gradient),
    ("Tf1xentKernelSparseGradient", _sparse_gradient_gradient),
    ("Tf1xentKernelSparseHessianProduct", _sparse_hessian_product_gradient),
    ("Tf1xentKernelDenseLoss", _dense_loss_gradient),
    ("Tf1xentKernelDenseGradient", _dense_gradient_gradient),
    ("Tf1xentKernelLabelGradient", _label_gradient_gradient),
    ("Tf1xentKernelDenseHessianProduct", _dense_hessian_product_gradient),
):
    _tf.register_gradient(_op_type, _gradient)

# Statistics have a row of the batch for a column.
_tf.register_batch_ops(["Tf1xentKernelSparseLoss", "Tf1xentKernelDenseLoss"], outputs_by_column=[1])
_tf.register_batch_ops(
    ["Tf1xentKernelSparseGradient", "Tf1xentKernelDenseGradient", "Tf1xentKernelLabelGradient"],
    by_column=[3],
)
_tf.register_batch_ops(["Tf1xentKernelSparseHessianProduct", "Tf1xentKernelDenseHessianProduct"])
