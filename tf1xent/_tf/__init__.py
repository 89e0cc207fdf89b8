"""The seam: the one package that knows TensorFlow's private modules and that its versions differ.

Everything else imports ``tf`` from here (the ``tensorflow.compat.v1`` names, which all supported
versions share) and calls the functions below. What a TensorFlow can do is probed, not looked up by
version number.

The central tool is `primitive`: a value computed by stock ops whose gradient is not the one that
TensorFlow would derive from those ops, but a closed form of ours. In graphs the gradient rides on
an ``IdentityN`` op that names it in its ``_gradient_op_type`` attribute, so that it survives export
and import; under eager tapes and forward accumulators, which do not look at that attribute, the
operation is recorded by hand.
"""

import tensorflow.compat.v1 as tf

from tf1xent._tf.control_flow_v2 import (
    ON,
    control_flow_v2,
    control_flow_v2_refusal,
    set_control_flow_v2,
)
from tf1xent._tf.defuns import TIED_GRADIENT, tied_to_function_inputs
from tf1xent._tf.distribution import across_replicas
from tf1xent._tf.drop_ins import (
    DENSE_FUNCTIONS,
    DENSE_STOPPED_FUNCTIONS,
    EXPORTED_FUNCTIONS,
    EXPORTS_MODULE,
    SPARSE_FUNCTIONS,
    STOCK_FUNCTIONS,
    STOCK_LOSSES,
    as_drop_in,
    convert_to_tensor,
    drop_in,
    is_stock_function,
    lookup_deprecated_axis,
    not_converted,
    note_loss_reduction,
    raise_as_stock,
    remove_squeezable_dimensions,
    stock_public_function,
    taken_whole,
)
from tf1xent._tf.op_definitions import (
    NEWEST_GRAPH,
    call_has_gradients,
    can_be_differentiated,
    enum_name,
    has_gradient,
    op_definition,
)
from tf1xent._tf.placement import in_function, runs_on_cpu
from tf1xent._tf.primitives import (
    Computed,
    Gradients,
    Primitive,
    Residuals,
    detached,
    is_zero,
    primitive,
    primitive_list,
)
from tf1xent._tf.process import kept_in_process
from tf1xent._tf.process_override import (
    hold_process_override,
    process_override,
    release_process_override,
    replaced_in_between,
)
from tf1xent._tf.protos import CONTROL_FLOW_CONTEXTS, CheckpointState, FunctionDef, SavedModel
from tf1xent._tf.registry import (
    DENSE_OP,
    FUSED_OPS,
    GRADIENT_ATTRIBUTE,
    GRADIENT_NAMES,
    GUARD_OP,
    SPARSE_OP,
    STOCK_GRADIENTS,
    gradient_attribute,
    gradient_of,
    gradient_sites,
    guards_cross_entropy,
    handed_on,
    is_second_output,
    names_own_gradient,
    op_type,
    register_gradient,
    set_gradient_attribute,
)
from tf1xent._tf.static_shapes import set_static_shape, with_static_shape
from tf1xent._tf.stock_ops import (
    broadcast_to,
    buffer_like,
    constant_value,
    in_plain_graph,
    multiply_no_nan,
    op_determinism_enabled,
    put,
    put_slice,
    select_rows,
    stock_sparse_op,
    sum_to_shape,
    sums_by_position,
    take_by_position,
    take_by_row,
    version,
    where,
)
from tf1xent._tf.vectorization import register_batch_ops

__all__ = [
    "CONTROL_FLOW_CONTEXTS",
    "CheckpointState",
    "Computed",
    "DENSE_FUNCTIONS",
    "DENSE_OP",
    "DENSE_STOPPED_FUNCTIONS",
    "EXPORTED_FUNCTIONS",
    "EXPORTS_MODULE",
    "FUSED_OPS",
    "FunctionDef",
    "GRADIENT_ATTRIBUTE",
    "GRADIENT_NAMES",
    "GUARD_OP",
    "Gradients",
    "NEWEST_GRAPH",
    "ON",
    "Primitive",
    "Residuals",
    "SPARSE_FUNCTIONS",
    "SPARSE_OP",
    "STOCK_FUNCTIONS",
    "STOCK_GRADIENTS",
    "STOCK_LOSSES",
    "SavedModel",
    "TIED_GRADIENT",
    "across_replicas",
    "as_drop_in",
    "broadcast_to",
    "buffer_like",
    "call_has_gradients",
    "can_be_differentiated",
    "constant_value",
    "control_flow_v2",
    "control_flow_v2_refusal",
    "convert_to_tensor",
    "detached",
    "drop_in",
    "enum_name",
    "gradient_attribute",
    "gradient_of",
    "gradient_sites",
    "guards_cross_entropy",
    "handed_on",
    "has_gradient",
    "hold_process_override",
    "in_function",
    "in_plain_graph",
    "is_second_output",
    "is_stock_function",
    "is_zero",
    "kept_in_process",
    "lookup_deprecated_axis",
    "multiply_no_nan",
    "names_own_gradient",
    "not_converted",
    "note_loss_reduction",
    "op_definition",
    "op_determinism_enabled",
    "op_type",
    "primitive",
    "primitive_list",
    "process_override",
    "put",
    "put_slice",
    "raise_as_stock",
    "register_batch_ops",
    "register_gradient",
    "release_process_override",
    "remove_squeezable_dimensions",
    "replaced_in_between",
    "runs_on_cpu",
    "select_rows",
    "set_control_flow_v2",
    "set_gradient_attribute",
    "set_static_shape",
    "stock_public_function",
    "stock_sparse_op",
    "sum_to_shape",
    "sums_by_position",
    "take_by_position",
    "take_by_row",
    "taken_whole",
    "tf",
    "tied_to_function_inputs",
    "version",
    "where",
    "with_static_shape",
]
