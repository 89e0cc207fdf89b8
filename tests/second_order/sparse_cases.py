"""Cases of ops that move the values of sparse tensors."""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.second_order.checking import Case
from tf1xent import _tf

RANDOM = np.random.RandomState(7)
LINEAR = dict(step=0.25, tolerance=1e-9)
# Row 2 is empty.
PLACES = np.int64([[0, 1], [0, 3], [1, 0], [3, 0], [3, 2], [3, 3]])
OTHERS = np.int64([[0, 0], [0, 3], [2, 2], [3, 2]])
SHAPE = [4, 4]
VALUES, OTHER_VALUES = RANDOM.normal(size=6), RANDOM.normal(size=4)


def sparse(places, values):
    return tf.SparseTensor(places, values, SHAPE)


def sliced(start, size):
    return lambda values: tf.sparse_slice(sparse(PLACES, values), start, size).values


def sliced_by_hand(start, size):
    inside = np.all((PLACES >= start) & (PLACES < np.add(start, size)), axis=1)
    return lambda values: tf.gather(values, np.flatnonzero(inside))


def filled(values, default):
    return tf.sparse_fill_empty_rows(sparse(PLACES, values), default)[0].values


def filled_by_hand(values, default):
    return tf.gather(tf.concat([values, [default]], 0), [0, 1, 2, 6, 3, 4, 5])


def ragged_filled(values, default):
    return _tf.raw_op("RaggedFillEmptyRows")(
        value_rowids=PLACES[:, 0], values=values, nrows=np.int64(4), default_value=default
    )[1]


def added(values, others, threshold=0.0):
    total = _tf.raw_op("SparseAdd")(
        a_indices=PLACES,
        a_values=values,
        a_shape=np.int64(SHAPE),
        b_indices=OTHERS,
        b_values=others,
        b_shape=np.int64(SHAPE),
        thresh=tf.cast(threshold, values.dtype),
    )
    return total[1]


def added_by_hand(values, others):
    both = sorted({*map(tuple, PLACES), *map(tuple, OTHERS)})
    first, second = (
        np.float64([[tuple(place) == there for place in places] for there in both])
        for places in (PLACES, OTHERS)
    )
    return tf.linalg.matvec(first, values) + tf.linalg.matvec(second, others)


def clipped(values, others):
    """Entries of the sum below 0.9 are left out."""
    return added(values, others, 0.9)


CASES = [
    Case(
        f"{start} {size}",
        "SparseSliceGrad",
        sliced(start, size),
        (VALUES,),
        composition=sliced_by_hand(start, size),
        **LINEAR,
    )
    for start, size in (([0, 1], [4, 2]), ([1, 0], [1, 1]), ([2, 0], [1, 4]), ([0, 0], [4, 4]))
]
for _op_type, _function in (
    ("SparseFillEmptyRowsGrad", filled),
    ("RaggedFillEmptyRowsGrad", ragged_filled),
):
    _arguments = (_op_type, _function)
    _default = np.float64(0.3)
    CASES += [
        Case("", *_arguments, (VALUES, _default), composition=filled_by_hand, **LINEAR),
        Case("unknown shapes", *_arguments, (VALUES, _default), static=False, **LINEAR),
        Case(
            "half",
            *_arguments,
            (np.float16(VALUES), np.float16(_default)),
            step=0.25,
            tolerance=2e-2,
        ),
    ]
CASES += [
    Case("", "SparseAddGrad", added, (VALUES, OTHER_VALUES), composition=added_by_hand, **LINEAR),
    Case(
        "one of the two",
        "SparseAddGrad",
        lambda values: added(values, OTHER_VALUES),
        (VALUES,),
        static=False,
        **LINEAR,
    ),
    Case(
        "with a threshold",
        "SparseAddGrad",
        clipped,
        (VALUES, OTHER_VALUES),
        step=1e-3,
        tolerance=1e-8,
    ),
]
