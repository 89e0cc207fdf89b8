"""The gradient ops that get no gradient here, each with the reason and what to do instead."""

from tf1xent.second_order.table import REFUSED

_CUDNN = (
    "its kernel runs on GPUs alone and keeps the cell's states in a format of its own. Write the "
    "network with tf.nn.dynamic_rnn and a cell of stock ops."
)
_TENSOR_ARRAY = (
    "a v1 TensorArray can be differentiated once; the second derivative ends in a session's 'Wrong "
    "input container'. Build the graph under tf1xent.patch(control_flow_v2=True), which makes "
    "lists of tensors."
)

REFUSED.update(
    {
        "CudnnRNNBackprop": _CUDNN,
        "CudnnRNNBackpropV2": _CUDNN,
        "CudnnRNNBackpropV3": _CUDNN,
        "PeriodicResampleOpGrad": (
            "it comes with tf.contrib.periodic_resample. Rearrange the entries with tf.reshape and "
            "tf.transpose, or with tf.depth_to_space."
        ),
        "RaggedTensorToVariantGradient": (
            "it does not know the row splits below the first. Apply the function to the flat "
            "values (tf.ragged.map_flat_values) in place of mapping it over the rows."
        ),
        "ResamplerGrad": (
            "it comes with tf.contrib.resampler. Interpolate between the pixels that tf.gather_nd "
            "reads, or use tf.image.crop_and_resize."
        ),
        "SparseMatrixSoftmaxGrad": (
            "its kernels run on GPUs alone, on CSR matrices. Take the exponentials of the values "
            "of a SparseTensor and divide them by tf.math.segment_sum over the rows."
        ),
        "SymbolicGradient": (
            "the runtime makes the gradient of a Defun, and no op of it is in the graph. Call the "
            "Python function itself, without the Defun."
        ),
        "TensorArrayGrad": _TENSOR_ARRAY,
        "TensorArrayGradV2": _TENSOR_ARRAY,
        "TensorArrayGradV3": _TENSOR_ARRAY,
        "TensorArrayGradWithShape": _TENSOR_ARRAY,
    }
)
