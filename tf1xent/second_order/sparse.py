"""Gradients of the gradients of sparse tensors' values, where those are moved and not changed.

The gradient ops here pick entries of a cotangent. Where they pick them from says the op itself,
applied to the numbers of the entries; the gradient of picking adds up at those places.
"""

from typing import Any, List, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.second_order.table import supplies


def _numbered(values: Tensor) -> Tensor:
    """1, 2, 3, ...: one number for each of the values. 0 then stands for none."""
    return tf.range(1, tf.shape(values, out_type=tf.int64)[0] + 1)


def _put(cotangents: Sequence[Optional[Tensor]], sources: Sequence[Tensor], like: Tensor) -> Any:
    """Adds each cotangent up where its entries came from; those from nowhere are left out."""
    size = tf.shape(like)[0]
    sums: List[Tensor] = [
        tf.unsorted_segment_sum(cotangent, source - 1, size)
        for cotangent, source in zip(cotangents, sources)
        if cotangent is not None
    ]
    return tf.add_n(sums) if sums else None


@supplies(
    "SparseSliceGrad", ["SparseSlice"], "Linear: the gradient picks the entries inside the slice."
)
def _sparse_slice_grad(op: Operation, cotangent: Tensor) -> Tuple[Tensor, None, None, None]:
    grad, input_indices, input_start, output_indices = op.inputs
    source = _tf.raw_op("SparseSliceGrad")(
        backprop_val_grad=_numbered(grad),
        input_indices=input_indices,
        input_start=input_start,
        output_indices=output_indices,
    )
    return _put([cotangent], [source], grad), None, None, None


@supplies(
    "SparseAddGrad",
    ["SparseAdd"],
    "Linear: the gradient adds two sparse tensors at the entries of the first sum.",
)
def _sparse_add_grad(
    op: Operation, *cotangents: Optional[Tensor]
) -> Tuple[Optional[Tensor], None, None, None]:
    grad, a_indices, b_indices, sum_indices = op.inputs
    sources = _tf.raw_op("SparseAddGrad")(
        backprop_val_grad=_numbered(grad),
        a_indices=a_indices,
        b_indices=b_indices,
        sum_indices=sum_indices,
    )
    return _put(cotangents, sources, grad), None, None, None


def _fill_empty_rows_grad(
    op: Operation, values: Optional[Tensor], default: Optional[Tensor]
) -> Tuple[None, Optional[Tensor]]:
    """Entries at `reverse_index_map` go to the values; the default's gradient sums the others."""
    sources, grad = op.inputs
    size = tf.shape(grad)[0]
    found = []
    if values is not None:
        found.append(tf.unsorted_segment_sum(values, sources, size))
    if default is not None:
        taken = tf.unsorted_segment_sum(tf.ones_like(sources), sources, size)
        found.append(tf.where(tf.equal(taken, 0), tf.fill([size], default), tf.zeros_like(grad)))
    return None, tf.add_n(found) if found else None


for _kind in ("Sparse", "Ragged"):
    supplies(
        f"{_kind}FillEmptyRowsGrad",
        [f"{_kind}FillEmptyRows"],
        "Linear: the gradient puts the values' part where they came from, and the default's into "
        "the empty rows.",
    )(_fill_empty_rows_grad)
