"""Tests a library at the end of its build: ``python -m ... LIBRARY LEVEL [LEVEL ...]``.

Every op, for every dtype, on small and larger shapes, is compared with the graph version, computed
in float64. This is a program of its own, because a wrong library may end the process that loads it.
A library chooses its level of instructions once in a process, so each level but the last runs in
a fork: importing TensorFlow takes longer than the test. Prints the level that each one used.
"""

import json
import os
import sys
import traceback
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from tf1xent._math import softmax
from tf1xent._math.dtypes import LOGITS_DTYPES, precise_dtype
from tf1xent._math.matrix import row_sum
from tf1xent._tf import tf
from tf1xent._typing import DType
from tf1xent.kernels.loading import LEVEL_VARIABLE, library_level

# One class, fewer than a vector has, some and a remainder, and more than one piece of a row has.
SHAPES = ((3, 1), (5, 3), (33, 10), (7, 67), (2, 70001))
_ROUNDOFF = {tf.float32: 2.0**-24, tf.float64: 2.0**-53, tf.half: 2.0**-11, tf.bfloat16: 2.0**-8}
# The graph version is computed in float64 too, so float64 results may be off by twice the contract.
_SLACK = 2
# The smallest normal numbers: below them numbers are as far apart as just above them.
_SMALLEST_NORMAL = {
    tf.float32: 2.0**-126,
    tf.float64: 2.0**-1022,
    tf.half: 2.0**-14,
    tf.bfloat16: 2.0**-126,
}


class Example(NamedTuple):
    """Arguments of the ops: arrays of float64, or tensors."""

    logits: Any
    labels: Any  # integers
    distributions: Any  # dense labels, whose rows need not sum to 1
    vectors: Any
    scale: Any


class Results(NamedTuple):
    """The result of each op: an array, a tensor, or how large an error may be."""

    sparse_loss: Any
    sparse_gradient: Any
    sparse_product: Any
    dense_loss: Any
    dense_gradient: Any
    label_gradient: Any
    dense_product: Any


class Comparison(NamedTuple):
    """What is compared for one example: arrays of float64."""

    arguments: Example
    results: Results  # of the ops
    wanted: Results  # by the graph version
    probabilities: Any


def example(num_rows: int, num_classes: int) -> Example:
    """Returns random arguments; the first row is a confident and right prediction."""
    random = np.random.RandomState(num_rows + num_classes)
    logits = 3 * random.normal(size=(num_rows, num_classes))
    labels = random.randint(num_classes, size=num_rows)
    logits[0, labels[0]] = 25
    distributions = random.uniform(size=logits.shape)
    distributions *= random.uniform(0.5, 1.5, size=[num_rows, 1]) / distributions.sum(
        axis=1, keepdims=True
    )
    vectors = random.normal(size=logits.shape)
    return Example(logits, labels, distributions, vectors, random.uniform(0.5, 2, size=num_rows))


def with_graph(arguments: Example) -> Results:
    """Builds the graph version on tensors."""
    x, y, q, v, scale = arguments
    return Results(
        softmax.sparse_loss(x, y),
        softmax.sparse_gradient(x, y, scale),
        softmax.hessian_product(x, v, scale),
        softmax.dense_loss(x, q),
        softmax.dense_gradient(x, q, scale),
        softmax.label_gradient(x, q, scale),
        softmax.hessian_product(x, v, scale * row_sum(q)),
    )


def with_ops(ops: Any, arguments: Example) -> Results:
    """Builds the library's ops on tensors."""
    precise = precise_dtype(arguments.logits)
    of_sparse = {"logits": arguments.logits, "labels": arguments.labels}
    of_dense = {"logits": arguments.logits, "labels": arguments.distributions}
    scale, vectors = {"scale": arguments.scale}, {"vectors": arguments.vectors}
    sparse_loss, sparse = ops.tf1xent_kernel_sparse_loss(precise=precise, **of_sparse)
    dense_loss, dense = ops.tf1xent_kernel_dense_loss(precise=precise, **of_dense)
    return Results(
        sparse_loss,
        ops.tf1xent_kernel_sparse_gradient(statistics=sparse, **of_sparse, **scale),
        ops.tf1xent_kernel_sparse_hessian_product(**of_sparse, **vectors, **scale),
        dense_loss,
        ops.tf1xent_kernel_dense_gradient(statistics=dense, **of_dense, **scale),
        ops.tf1xent_kernel_label_gradient(statistics=dense, **of_dense, **scale),
        ops.tf1xent_kernel_dense_hessian_product(**of_dense, **vectors, **scale),
    )


def placeholders(dtype: DType, labels_dtype: DType) -> Example:
    """Builds placeholders for arguments of any size."""
    matrices = [tf.placeholder(dtype, [None, None]) for _ in range(3)]
    labels, scale = tf.placeholder(labels_dtype, [None]), tf.placeholder(dtype, [None])
    return Example(matrices[0], labels, matrices[1], matrices[2], scale)


def rounded_arguments(fed: Example, dtype: DType) -> Example:
    """The arguments with the matrices rounded to a dtype."""
    logits, distributions, vectors = (
        tf.cast(matrix, dtype) for matrix in (fed.logits, fed.distributions, fed.vectors)
    )
    return fed._replace(logits=logits, distributions=distributions, vectors=vectors)


def compare(ops: Any, shapes: Sequence[Tuple[int, int]]) -> List[Tuple[DType, Comparison]]:
    """Runs the ops for every dtype on arguments of all shapes, and the graph version in float64.

    Each graph is built once and fed with all arguments: building takes longer than running.
    """
    found = []
    examples = [example(*shape) for shape in shapes]
    with tf.Graph().as_default(), tf.Session() as session:
        wide = placeholders(tf.float64, tf.int64)
        wanted = with_graph(wide), softmax.softmax(wide.logits)
        for dtype in LOGITS_DTYPES:
            precise = tf.float64 if dtype == tf.float64 else tf.float32
            for labels_dtype in (tf.int32, tf.int64):
                fed = placeholders(precise, labels_dtype)
                given = rounded_arguments(fed, dtype)
                arguments = Example(*(tf.cast(t, w.dtype) for t, w in zip(given, wide)))
                results = Results(*(tf.cast(r, tf.float64) for r in with_ops(ops, given)))
                # Odd and even shapes take turns with the two dtypes of labels.
                for each in examples:
                    if len(each.labels) % 2 == (labels_dtype == tf.int64):
                        x, y = session.run((arguments, results), dict(zip(fed, each)))
                        z, probabilities = session.run(wanted, dict(zip(wide, x)))
                        found.append((dtype, Comparison(x, y, z, probabilities)))
    return found


def magnitudes(compared: Comparison) -> Results:
    """What each error is relative to: the sizes of the terms that the result is made of."""
    sizes = Results(*(np.abs(value) for value in compared.wanted))
    x, _, q, v, scale = compared.arguments
    p, scale = compared.probabilities, scale[:, np.newaxis]
    rows, k = np.arange(len(x)), x.argmax(axis=1)
    w = np.abs(np.where(p.max(axis=1, keepdims=True) > 0.5, v - v[rows, k][:, np.newaxis], v))
    products = scale * p * (w + (p * w).sum(axis=1, keepdims=True))
    total = q.sum(axis=1, keepdims=True)
    # A class whose probability is near its label: the formula has no better terms than these.
    is_largest = x == x.max(axis=1, keepdims=True)
    dense = scale * np.where(is_largest, total - q + total * (1 - p), total * p + q)
    return sizes._replace(
        sparse_product=products,
        dense_gradient=np.maximum(dense, sizes.dense_gradient),
        dense_product=total * products,
    )


def faults(compared: Comparison, dtype: DType) -> Dict[str, str]:
    """Returns the results that are off, each with how far."""
    computed_in = tf.float64 if dtype == tf.float64 else tf.float32
    x = compared.arguments.logits
    spread = (x.max(axis=1) - x.min(axis=1))[:, np.newaxis]
    contract = _SLACK * _ROUNDOFF[computed_in] * (16 * (1 + spread) + np.sqrt(x.shape[1]))
    found = {}
    for name, size in magnitudes(compared)._asdict().items():
        wanted = getattr(compared.wanted, name)
        by_row = size.ndim == 1
        stored_in = computed_in if by_row else dtype
        allowed = (contract[:, 0] if by_row else contract) * size
        rounded = np.maximum(np.abs(wanted), _SMALLEST_NORMAL[stored_in])
        allowed = allowed + 2 * _ROUNDOFF[stored_in] * rounded
        error = np.abs(getattr(compared.results, name) - wanted)
        with np.errstate(invalid="ignore"):
            right = np.all(error <= allowed)  # not where it is NaN
        if not right:
            found[name] = f"error up to {np.max(error / allowed):.3g} times what is allowed"
    return found


def check_values(ops: Any) -> List[str]:
    """Returns what is wrong with the values of the ops, in words."""
    return [
        f"{name} of {dtype.name} {list(compared.arguments.logits.shape)}: {fault}"
        for dtype, compared in compare(ops, SHAPES)
        for name, fault in faults(compared, dtype).items()
    ]


def check_invalid_labels(ops: Any) -> List[str]:
    """Returns what is wrong with labels out of range: refused, or NaN in their own rows."""
    found = []
    with tf.Graph().as_default(), tf.Session() as session:
        arguments = {
            "logits": tf.zeros([3, 5]),
            "labels": tf.constant([1, 5, -1]),
            "precise": tf.float32,
        }
        strict, _ = ops.tf1xent_kernel_sparse_loss(invalid_labels="raise", **arguments)
        lenient, _ = ops.tf1xent_kernel_sparse_loss(invalid_labels="nan", **arguments)
        try:
            session.run(strict)
            found.append("labels out of range are not refused")
        except tf.errors.InvalidArgumentError:
            pass
        if np.isnan(session.run(lenient)).tolist() != [False, True, True]:
            found.append('labels out of range do not give NaN with invalid_labels="nan"')
    return found


def keeps_subnormals() -> bool:
    """Whether this process computes with subnormal numbers, and not with 0 in their place."""
    return bool(np.float32(1e-40) * np.float32(1) != 0)


def check(path: str, level: str) -> Optional[str]:
    """Tests the library at `path` on a level; prints what it used, or returns what is wrong."""
    os.environ[LEVEL_VARIABLE] = level
    before = keeps_subnormals()
    ops = tf.load_op_library(path)
    used = library_level(path)
    found = check_values(ops) + check_invalid_labels(ops)
    if before and not keeps_subnormals():
        found.append("with the library loaded, the process flushes subnormal numbers to zero")
    if found:
        return "\n".join(found)
    print(json.dumps({"level": used}), flush=True)
    return None


def check_in_fork(path: str, level: str) -> None:
    """`check` in a copy of this process; this one ends as that one does, unless all is well."""
    pid = os.fork()
    if pid == 0:
        wrong: Optional[str] = "the test itself failed"
        try:
            wrong = check(path, level)
        except Exception:
            traceback.print_exc()
        if wrong:
            print(wrong, file=sys.stderr, flush=True)
        os._exit(1 if wrong else 0)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))
    if status != 0:
        sys.exit(1)


def main(path: str, *levels: str) -> Optional[str]:
    """Tests the library at `path` on each level; returns what is wrong on the last one."""
    for level in levels[:-1]:
        check_in_fork(path, level)
    # Last, because a process in which sessions have run must not be forked.
    return check(path, levels[-1])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
