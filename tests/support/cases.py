"""The shared table of cases: dtypes, shapes, static and dynamic, and rows of logits.

Names of dtypes are TensorFlow's ("half", "bfloat16"), so that this module needs none of it.
"""

import collections

import numpy as np

LOGITS_DTYPES = ("half", "bfloat16", "float32", "float64")
PRECISE_DTYPES = ("float32", "float64")
LABELS_DTYPES = ("int32", "int64")

# The library may compute few and many classes by different routes, chosen by the static
# number of classes near 64; a number that is not known statically is a case of its own.
NUM_CLASSES = (1, 2, 10, 64, 65, 1000)

# static: the placeholder's shape, None when not even the rank is known; concrete: what is fed.
Shape = collections.namedtuple("Shape", ["name", "static", "concrete"])

SHAPES = (
    Shape("vector", [10], [10]),
    Shape("vector_unknown_classes", [None], [10]),
    Shape("vector_one_class", [1], [1]),
    Shape("matrix", [5, 10], [5, 10]),
    Shape("matrix_many_classes", [5, 70], [5, 70]),
    Shape("matrix_unknown_rows", [None, 10], [5, 10]),
    Shape("matrix_unknown_classes", [5, None], [5, 10]),
    Shape("matrix_unknown", [None, None], [5, 10]),
    Shape("matrix_unknown_many_classes", [None, None], [5, 70]),
    Shape("matrix_zero_rows", [0, 10], [0, 10]),
    Shape("matrix_zero_rows_fed", [None, 10], [0, 10]),
    Shape("matrix_one_class", [5, 1], [5, 1]),
    Shape("matrix_two_classes", [5, 2], [5, 2]),
    Shape("matrix_one_number", [1, 1], [1, 1]),
    Shape("matrix_one_number_unknown", [None, None], [1, 1]),
    Shape("sequence", [2, 3, 10], [2, 3, 10]),
    Shape("sequence_unknown_length", [2, None, 10], [2, 3, 10]),
    Shape("sequence_unknown", [None, None, None], [2, 3, 10]),
    Shape("sequence_zero_length", [None, None, 10], [2, 0, 10]),
    Shape("image", [2, 3, 2, 10], [2, 3, 2, 10]),
    Shape("image_unknown_classes", [2, 3, 2, None], [2, 3, 2, 10]),
    Shape("image_many_classes", [2, 3, 2, 65], [2, 3, 2, 65]),
    Shape("vector_unknown_rank", None, [10]),
    Shape("matrix_unknown_rank", None, [5, 10]),
    Shape("matrix_unknown_rank_many_classes", None, [5, 70]),
    Shape("image_unknown_rank", None, [2, 3, 2, 10]),
    Shape("matrix_zero_rows_unknown_rank", None, [0, 10]),
)

DENSE_KINDS = ("one_hot", "smoothed", "random", "unnormalized", "zero")


def _margins(num_classes, dtype):
    margins = [1e-6, 1e-3, 0.5, 1.0, 3.0, 10.0, 15.0, 17.0, 20.0, 30.0, 50.0, 80.0, 300.0, 1e4]
    if dtype == np.float64:
        margins += [600.0, 700.0]
    if num_classes > 100:  # the oracle takes its time
        margins = margins[::5]
    return margins


def rows(num_classes, dtype, num_random=6, seed=7):
    """Random and adversarial rows: logits [num_rows, num_classes], int labels [num_rows].

    Every logit is finite or -inf, and no label's own class is masked.
    """
    dtype = np.dtype(dtype)
    random = np.random.RandomState(seed + num_classes)
    table = []

    def add(row, label):
        table.append((np.asarray(row, dtype), int(label)))

    for i in range(num_random):
        row = random.normal(size=num_classes) * (1.0, 5.0, 25.0)[i % 3]
        add(row, random.randint(num_classes))
    add(np.zeros(num_classes), num_classes - 1)
    add(np.full(num_classes, -1e30), 0)
    add(np.full(num_classes, 1e30), 0)
    if num_classes == 1:
        return _stacked(table)

    last = num_classes - 1
    for margin in _margins(num_classes, dtype):
        ahead = np.zeros(num_classes)
        ahead[last] = margin
        add(ahead, last)  # confident and right
        add(ahead, 0)  # confident and wrong
    noisy = random.normal(size=num_classes)
    noisy[0] += 25.0
    add(noisy, 0)
    add(noisy, int(np.argmin(noisy)))
    add(1000.0 + noisy, 0)
    add(-1000.0 + noisy, last)

    huge = random.normal(size=num_classes)
    huge[0], huge[last] = 1e30, -1e30
    add(huge, 0)
    add(huge, last)

    tied = random.normal(size=num_classes)
    tied[0] = tied[last] = tied.max() + 8.0
    add(tied, 0)
    add(tied, last)
    close = tied.copy()
    close[0] = np.nextafter(dtype.type(close[0]), dtype.type(np.inf))
    add(close, 0)
    add(close, last)

    near = 3.0 + 1e-3 * random.normal(size=num_classes)  # hundreds of near-equal logits
    add(near, int(np.argmax(near)))
    add(near, int(np.argmin(near)))
    # The largest probability close to 1/2, on either side, all others alike.
    for offset in (-0.02, 0.02):
        half = 1e-2 * random.uniform(size=num_classes)
        half[last] = np.log(num_classes) + offset
        add(half, last)
        add(half, 0)
    # A true class well below a crowd that all but ties.
    crowd = 5.0 + 1e-2 * random.normal(size=num_classes)
    crowd[0] = -7.0
    add(crowd, 0)

    masked = random.normal(size=num_classes)
    masked[1::2] = -np.inf
    add(masked, 0)
    alone = np.full(num_classes, -np.inf)
    alone[last] = -3.0
    add(alone, last)
    confident = masked.copy()
    confident[0] = 40.0
    add(confident, 0)
    add(confident, int(2 * ((num_classes - 1) // 2)))
    return _stacked(table)


def _stacked(table):
    logits = np.stack([row for row, _ in table])
    labels = np.array([label for _, label in table], np.int64)
    return logits, labels


def dense_labels(logits, labels, kinds, seed=11):
    """Dense labels [num_rows, num_classes] for `rows`, row i of kind kinds[i % len(kinds)].

    Labels are not negative, and masked classes have none. "unnormalized" rows sum to neither
    1 nor 0, "zero" rows to 0.
    """
    random = np.random.RandomState(seed)
    dense = np.zeros(logits.shape, np.float64)
    for i, (row, label) in enumerate(zip(logits, labels)):
        open_classes = ~np.isneginf(row)
        kind = kinds[i % len(kinds)]
        if kind == "one_hot":
            dense[i, label] = 1.0
        elif kind == "smoothed":
            dense[i, open_classes] = 0.1 / open_classes.sum()
            dense[i, label] += 0.9
        elif kind == "random":
            dense[i, open_classes] = random.gamma(0.5, size=open_classes.sum())
            dense[i] /= dense[i].sum()
        elif kind == "unnormalized":
            dense[i, open_classes] = random.uniform(size=open_classes.sum()) / 3.0
        elif kind != "zero":
            raise ValueError(f"kind must be one of {DENSE_KINDS}, got {kind!r}")
    return dense.astype(logits.dtype)


def unit_vectors(logits, labels):
    """Rows, labels and unit vectors, each row once per tested column of its Hessian.

    All columns of up to ten classes; of more, those of the label, the largest logit and the
    last class.
    """
    num_rows, num_classes = logits.shape
    which, columns = [], []
    for i in range(num_rows):
        if num_classes <= 10:
            chosen = range(num_classes)
        else:
            label = int(labels[i]) if np.ndim(labels) == 1 else int(np.argmax(labels[i]))
            chosen = sorted({label, int(np.argmax(logits[i])), num_classes - 1})
        for column in chosen:
            which.append(i)
            columns.append(column)
    vectors = np.eye(num_classes, dtype=logits.dtype)[columns]
    return logits[which], labels[which], vectors


def low_precision_rows(dtype):
    """Logits of 10 classes that half or bfloat16 holds exactly, and their labels.

    Args:
      dtype: the NumPy dtype.

    Returns:
      float32 [8, 10] and integers [8]; a row is confident, and one has a masked class.
    """
    logits = (np.random.RandomState(8).normal(size=(8, 10)) * 3.0).astype(np.float32)
    logits[0] = 0.0
    logits[0, 3] = 9.0
    logits[1, 2] = -np.inf
    return logits.astype(dtype).astype(np.float32), np.array([3, 0, 1, 5, 9, 4, 0, 2])
