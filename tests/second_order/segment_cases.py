"""Cases of sums, means and root means over segments of rows."""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.second_order.checking import Case
from tf1xent import _tf

ROWS = np.random.RandomState(6).normal(size=[5, 2])
LINEAR = dict(step=0.25, tolerance=1e-9)
# Row 3 is in no segment, row 0 twice in one, segment 1 is empty.
INDICES, SEGMENTS = np.int32([0, 0, 4, 1, 2]), np.int32([0, 0, 0, 2, 2])
POWERS = {"Sum": 0.0, "Mean": -1.0, "SqrtN": -0.5}


def reduced(reduction, num_segments=None, segments=SEGMENTS, **attributes):
    def function(rows):
        arguments = dict(data=rows, indices=INDICES, segment_ids=segments, **attributes)
        if num_segments is None:
            return _tf.raw_op(f"SparseSegment{reduction}")(**arguments)
        op_type = f"SparseSegment{reduction}WithNumSegments"
        return _tf.raw_op(op_type)(num_segments=num_segments, **arguments)

    return function


def multiplied(reduction, num_segments=3):
    """The same as a product with a matrix."""
    matrix = np.zeros([num_segments, len(ROWS)])
    for index, segment in zip(INDICES, SEGMENTS):
        matrix[segment, index] += float(np.sum(SEGMENTS == segment)) ** POWERS[reduction]
    return lambda rows: tf.matmul(tf.constant(matrix, rows.dtype), rows)


def embedded(combiner):
    def function(rows):
        places, ids = np.int64([[0, 0], [0, 1], [1, 0], [3, 2]]), np.int64([1, 4, 1, 0])
        sparse = tf.SparseTensor(places, ids, [4, 3])
        return tf.nn.embedding_lookup_sparse(rows, sparse, None, combiner=combiner)

    return function


_definition = _tf.op_definition("SparseSegmentMean")
# Newer lookups have gradients of only the rows they use.
LOOKUP = "V2" if "sparse_gradient" in {a.name for a in _definition.attr} else ""
CASES = []
for _reduction in POWERS:
    op_type = f"SparseSegment{_reduction}Grad"
    CASES += [
        Case(
            "segments as counted",
            op_type,
            reduced(_reduction),
            (ROWS,),
            composition=multiplied(_reduction),
            **LINEAR,
        ),
        Case(
            "empty segments at the end, unknown shapes",
            op_type,
            reduced(_reduction, num_segments=5),
            (ROWS,),
            static=False,
            composition=multiplied(_reduction, 5),
            **LINEAR,
        ),
        Case(
            "float32", op_type, reduced(_reduction), (np.float32(ROWS),), step=0.25, tolerance=1e-5
        ),
        Case("a lookup", op_type + LOOKUP, embedded(_reduction.lower()), (ROWS,), **LINEAR),
        Case(
            "some rows",
            op_type + "V2",
            reduced(_reduction, sparse_gradient=True),
            (ROWS,),
            composition=multiplied(_reduction),
            **LINEAR,
        ),
        Case(
            "int64 segments, half, one row more",
            op_type + "V2",
            reduced(_reduction, 4, segments=np.int64(SEGMENTS), sparse_gradient=True),
            (np.float16(ROWS),),
            step=0.25,
            tolerance=2e-2,
        ),
    ]
