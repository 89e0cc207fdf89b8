"""Checks a supplied gradient against finite differences of TensorFlow's own first gradient.

With f the function of a case, c a cotangent and g(x, c) = (df/dx)^T c its first gradient, which is
TensorFlow's own, the second derivatives are those of s(x, c) = <g(x, c), v>. The gradients of s in
x and c, which need the supplied gradient, are compared with central differences of s along random
directions, one input at a time.
"""

from typing import Any, Callable, NamedTuple, Tuple

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tf1xent import _tf


class Case(NamedTuple):
    """A function whose first gradient is computed by an op that has no gradient.

    Attributes:
      name: what is special about the case; no two cases of an op type have the same.
      op_type: the gradient op. A case whose graph has none tests nothing, and fails.
      function: tensors, one for each of `inputs` -> a tensor.
      inputs: the point, an array for each tensor. Keep away from kinks by more than `step`.
      step: of the central differences.
      tolerance: how far they may be off, relative to the sum of the sizes of what is added.
      third: whether third derivatives are checked too.
    """

    name: str
    op_type: str
    function: Callable[..., Any]
    inputs: Tuple[np.ndarray, ...]
    step: float = 1e-5
    tolerance: float = 1e-7
    third: bool = True


def case_id(case):
    return f"{case.op_type}-{case.name}"


def skip_without_gap(op_type):
    """Skip where this TensorFlow lacks the op, or has a gradient for it."""
    if _tf.op_definition(op_type) is None:
        pytest.skip(f"TensorFlow {_tf.version()} has no op {op_type}")
    if not _tf.has_gap(op_type):
        pytest.skip(f"TensorFlow {_tf.version()} has a gradient of its own for {op_type}")


def gradients(ys, xs, cotangents=None):
    """Return the gradients of `ys` in `xs` as tensors; zeros for none."""
    found = tf.gradients(ys, xs, cotangents)
    return [
        tf.zeros_like(x) if gradient is None else tf.convert_to_tensor(gradient)
        for x, gradient in zip(xs, found)
    ]


def inner(first, second):
    """Return the sum of the inner products of two lists of tensors, of one dtype each."""
    return tf.add_n([tf.reduce_sum(tf.cast(a * b, tf.float64)) for a, b in zip(first, second)])


class Derivatives:
    """The graph of a case: its first gradient, and the derivatives above it."""

    def __init__(self, case):
        random = np.random.RandomState(len(case.name))
        self.case = case
        self.xs = [tf.placeholder(x.dtype, x.shape) for x in case.inputs]
        y = case.function(*self.xs)
        self.c = tf.placeholder(y.dtype, y.shape)
        self.points = self.xs + [self.c]
        dtype = y.dtype.as_numpy_dtype
        self.at = [*case.inputs, random.normal(size=y.shape.as_list()).astype(dtype)]
        self.directions = [random.normal(size=p.shape).astype(p.dtype) for p in self.at]
        self.first = gradients(y, self.xs, [self.c])
        types = {op.type for op in tf.get_default_graph().get_operations()}
        assert case.op_type in types, f"the graph has no {case.op_type}: {sorted(types)}"
        self.second = gradients(inner(self.first, self.directions), self.points)
        loss = tf.reduce_sum(self.c * y + y * y / 2)
        products = gradients(inner(gradients(loss, self.xs), self.directions), self.xs)
        others = [random.normal(size=x.shape).astype(x.dtype) for x in case.inputs]
        again = gradients(inner(gradients(loss, self.xs), others), self.xs)
        self.symmetric = [inner(products, others), inner(again, self.directions)]
        if case.third:
            self.third = gradients(inner(self.second, self.directions), self.points)

    def compare(self, session, below, derivative):
        """Compare `derivative`, of <below, directions>, with central differences of this."""
        step, random = self.case.step, np.random.RandomState(3)
        feed = dict(zip(self.points, self.at))
        found = session.run(derivative, feed)
        for point, at, gradient in zip(self.points, self.at, found):
            move = random.normal(size=at.shape).astype(at.dtype)
            ends = [(at + sign * step * move).astype(at.dtype) for sign in (1, -1)]
            up, down = (session.run(below, {**feed, point: end}) for end in ends)
            moved = (ends[0].astype(np.float64) - ends[1]) / 2
            differences = [
                np.sum((u.astype(np.float64) - d) * v) / 2
                for u, d, v in zip(up, down, self.directions)
            ]
            wanted, size = sum(differences), np.sum(np.abs(gradient * moved))
            size += sum(map(abs, differences)) + step
            error = abs(np.sum(gradient.astype(np.float64) * moved) - wanted)
            assert error <= self.case.tolerance * size, (point.name, error / size)


def check(case):
    """Check the second derivatives of a case, the symmetry of the Hessian, and the third."""
    skip_without_gap(case.op_type)
    tf1xent.override_gradients()
    try:
        with tf.Graph().as_default(), tf.Session() as session:
            derivatives = Derivatives(case)
            derivatives.compare(session, derivatives.first, derivatives.second)
            one, other = session.run(
                derivatives.symmetric, dict(zip(derivatives.points, derivatives.at))
            )
            assert abs(one - other) <= 1e3 * case.tolerance * (1 + abs(one))
            if case.third:
                derivatives.compare(session, derivatives.second, derivatives.third)
    finally:
        tf1xent.restore_gradients()
