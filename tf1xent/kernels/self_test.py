"""Tests a library in this process, at the end of its build: ``python -m ... LIBRARY``.

Every op, for every dtype, on small and larger shapes, against formulas in NumPy. It is a program of
its own since a library that is wrong may end the process that loads it. Prints the level of
instructions that was tested; the variable TF1XENT_KERNEL_LEVEL lowers it.
"""

import json
import sys
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np

from tf1xent._tf import tf
from tf1xent.kernels.loading import library_level

# One class, fewer than a vector has, some and a remainder, and more than one piece of a row has.
SHAPES = ((3, 1), (5, 3), (33, 10), (7, 67), (2, 70001))
DTYPES = (tf.float32, tf.float64, tf.half, tf.bfloat16)
_ROUNDOFF = {tf.float32: 2.0**-24, tf.float64: 2.0**-53, tf.half: 2.0**-11, tf.bfloat16: 2.0**-8}
# The formulas below are computed in float64 themselves, so float64 results are allowed twice that.
_SLACK = 2
# The smallest normal numbers: below them numbers are as far apart as just above them.
_SMALLEST_NORMAL = {
    tf.float32: 2.0**-126,
    tf.float64: 2.0**-1022,
    tf.half: 2.0**-14,
    tf.bfloat16: 2.0**-126,
}


class Example(NamedTuple):
    """Arguments of the ops, as NumPy computes with them: float64."""

    logits: Any
    labels: Any  # integers
    distributions: Any  # dense labels, whose rows need not sum to 1
    vectors: Any
    scale: Any


class Results(NamedTuple):
    """One value for each quantity: an array, a tensor, or how far off one is."""

    sparse_loss: Any
    sparse_gradient: Any
    sparse_product: Any
    dense_loss: Any
    dense_gradient: Any
    label_gradient: Any
    dense_product: Any


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


def in_numpy(arguments: Example) -> Results:
    """The quantities as the design writes them, every difference of near numbers avoided."""
    x, y, v = arguments.logits, arguments.labels, arguments.vectors
    rows = np.arange(len(x))
    k = x.argmax(axis=1)
    d = x - x[rows, k][:, np.newaxis]
    powers = np.exp(d)
    powers[rows, k] = 0
    s = powers.sum(axis=1)
    t = np.log1p(s)
    p = np.exp(d) / (1 + s)[:, np.newaxis]
    scale = arguments.scale[:, np.newaxis]

    loss = t - d[rows, y]
    gradient = p.copy()
    gradient[rows, y] = np.expm1(-loss)
    w = np.where((s < 1)[:, np.newaxis], v - v[rows, k][:, np.newaxis], v)
    product = p * (w - (p * w).sum(axis=1, keepdims=True))

    q = arguments.distributions
    others = q.copy()
    others[rows, k] = 0
    total = q.sum(axis=1)
    dense_gradient = total[:, np.newaxis] * p - q
    at_pivot = others.sum(axis=1) - total * s / (1 + s)
    dense_gradient[rows, k] = np.where(s < 1, at_pivot, dense_gradient[rows, k])
    return Results(
        loss,
        scale * gradient,
        scale * product,
        (q * -d).sum(axis=1) + total * t,
        scale * dense_gradient,
        scale * (t[:, np.newaxis] - d),
        scale * total[:, np.newaxis] * product,
    )


def magnitudes(arguments: Example, results: Results) -> Results:
    """What the errors of the quantities are relative to: the sizes of the terms that make them."""
    sizes = Results(*(np.abs(value) for value in results))
    x, v = arguments.logits, arguments.vectors
    rows, k = np.arange(len(x)), x.argmax(axis=1)
    d = x - x[rows, k][:, np.newaxis]
    p = np.exp(d) / np.exp(d).sum(axis=1, keepdims=True)
    scale = arguments.scale[:, np.newaxis]
    w = np.abs(np.where(p.max(axis=1, keepdims=True) > 0.5, v - v[rows, k][:, np.newaxis], v))
    products = scale * p * (w + (p * w).sum(axis=1, keepdims=True))
    q = arguments.distributions
    total = q.sum(axis=1, keepdims=True)
    # A class whose probability is near its label: the formula has no better terms than these.
    dense = scale * np.where(d == 0, total - q + total * (1 - p), total * p + q)
    return sizes._replace(
        sparse_product=products,
        dense_gradient=np.maximum(dense, sizes.dense_gradient),
        dense_product=total * products,
    )


def with_ops(ops: Any, arguments: Example, dtype: Any) -> Any:
    """Builds the ops on arguments of a dtype: (what they computed with, Results)."""
    precise = tf.float64 if dtype == tf.float64 else tf.float32
    logits, distributions, vectors = (
        tf.cast(tf.constant(value, precise), dtype)
        for value in (arguments.logits, arguments.distributions, arguments.vectors)
    )
    # Odd and even shapes take turns with the two dtypes of labels.
    labels = tf.constant(arguments.labels, tf.int64 if len(arguments.labels) % 2 else tf.int32)
    scale = tf.constant(arguments.scale, precise)
    sparse_loss, sparse = ops.tf1xent_kernel_sparse_loss(
        logits=logits, labels=labels, precise=precise
    )
    dense_loss, dense = ops.tf1xent_kernel_dense_loss(
        logits=logits, labels=distributions, precise=precise
    )
    of_dense = {"logits": logits, "labels": distributions, "scale": scale}
    results = Results(
        sparse_loss,
        ops.tf1xent_kernel_sparse_gradient(
            logits=logits, labels=labels, scale=scale, statistics=sparse
        ),
        ops.tf1xent_kernel_sparse_hessian_product(
            logits=logits, labels=labels, vectors=vectors, scale=scale
        ),
        dense_loss,
        ops.tf1xent_kernel_dense_gradient(statistics=dense, **of_dense),
        ops.tf1xent_kernel_label_gradient(statistics=dense, **of_dense),
        ops.tf1xent_kernel_dense_hessian_product(vectors=vectors, **of_dense),
    )
    rounded = Example(logits, labels, distributions, vectors, scale)
    as_numbers = [
        value if value.dtype.is_integer else tf.cast(value, precise)
        for value in (*rounded, *results)
    ]
    return Example(*as_numbers[: len(rounded)]), Results(*as_numbers[len(rounded) :])


def faults(arguments: Example, results: Results, dtype: Any) -> Dict[str, str]:
    """Returns the quantities that are not what NumPy has, each with how far off it is."""
    arguments = Example(
        *(np.asarray(a, np.int64 if a.dtype.kind == "i" else float) for a in arguments)
    )
    wanted = in_numpy(arguments)
    computed_in = tf.float64 if dtype == tf.float64 else tf.float32
    x = arguments.logits
    spread = (x.max(axis=1) - x.min(axis=1))[:, np.newaxis]
    contract = _SLACK * _ROUNDOFF[computed_in] * (16 * (1 + spread) + np.sqrt(x.shape[1]))
    found = {}
    for name, size in magnitudes(arguments, wanted)._asdict().items():
        by_row = size.ndim == 1
        stored_in = computed_in if by_row else dtype
        allowed = (contract[:, 0] if by_row else contract) * size
        rounded = np.maximum(np.abs(getattr(wanted, name)), _SMALLEST_NORMAL[stored_in])
        allowed = allowed + 2 * _ROUNDOFF[stored_in] * rounded
        error = np.abs(np.asarray(getattr(results, name), float) - getattr(wanted, name))
        with np.errstate(invalid="ignore"):
            right = np.all(error <= allowed)  # not where it is NaN
        if not right:
            found[name] = f"error up to {np.max(error / allowed):.3g} times what is allowed"
    return found


def check_values(ops: Any) -> List[str]:
    """Returns what is wrong with the values of the ops, in words."""
    with tf.Graph().as_default(), tf.Session() as session:
        cases = [(shape, dtype) for shape in SHAPES for dtype in DTYPES]
        built = [with_ops(ops, example(*shape), dtype) for shape, dtype in cases]
        computed = session.run(built)
    return [
        f"{name} of {dtype.name} [{shape[0]}, {shape[1]}]: {fault}"
        for (shape, dtype), (arguments, results) in zip(cases, computed)
        for name, fault in faults(arguments, results, dtype).items()
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
    """Whether this process computes with numbers below the smallest normal one."""
    return bool(np.float32(1e-40) * np.float32(1) != 0)


def main(path: str) -> Optional[str]:
    """Tests the library at `path`; prints its level, or returns what is wrong."""
    before = keeps_subnormals()
    ops = tf.load_op_library(path)
    level = library_level(path)
    found = check_values(ops) + check_invalid_labels(ops)
    if before and not keeps_subnormals():
        found.append("with the library loaded, the process flushes subnormal numbers to zero")
    if found:
        return "\n".join(found)
    print(json.dumps({"level": level}))
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
