"""Checks a supplied gradient against finite differences of TensorFlow's own first gradient.

With f the function of a case, c a cotangent and g(x, c) = (df/dx)^T c its first gradient, which is
TensorFlow's own, the second derivatives are those of s(x, c) = <g(x, c), v>. The gradients of s in
x and c, which need the supplied gradient, are compared with central differences of s along random
directions, one input at a time.
"""

import contextlib
import itertools
from typing import Any, Callable, NamedTuple, Optional, Tuple

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
      composition: the same function of ops that TensorFlow differentiates, to compare with.
      static: whether the static shapes of the inputs are known.
      runs: whether a CPU can run the gradient op. If not, `composition` is all there is to compare
        with: derivatives above the first do not run it.
    """

    name: str
    op_type: str
    function: Callable[..., Any]
    inputs: Tuple[np.ndarray, ...]
    step: float = 1e-5
    tolerance: float = 1e-7
    third: bool = True
    composition: Optional[Callable[..., Any]] = None
    static: bool = True
    runs: bool = True


_NUMBERS = itertools.count()


@contextlib.contextmanager
def differentiated_by(**functions):
    """Ops made inside, of the types named, have these functions as their first gradients."""
    names = {op_type: f"TestGradient{next(_NUMBERS)}" for op_type in functions}
    for op_type, function in functions.items():
        tf.RegisterGradient(names[op_type])(function)
    with tf.get_default_graph().gradient_override_map(names):
        yield


def as_an_old_graph(producer):
    """Let the default graph have ops that TensorFlow removed after this version of graphs."""
    old = tf.GraphDef()
    old.node.add(name="old", op="NoOp")
    old.versions.producer = producer
    tf.import_graph_def(old, name="")


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


def quick_session():
    """A session that does not optimize graphs which run a few times."""
    config = tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)
    config.graph_options.optimizer_options.opt_level = -1  # L0
    config.graph_options.place_pruned_graph = True
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return tf.Session(config=config)


class Derivatives:
    """The graph of a case: its first gradient, and the derivatives above it."""

    def __init__(self, case, session, function):
        random = np.random.RandomState(len(case.name))
        self.case, self.session = case, session
        self.xs = [self.placeholder(x.dtype, x.shape) for x in case.inputs]
        y = function(*self.xs)
        shape = y.shape
        if not shape.is_fully_defined():
            shape = session.run(tf.shape(y), dict(zip(self.xs, case.inputs)))
        self.c = self.placeholder(y.dtype, shape)
        self.points = self.xs + [self.c]
        dtype = y.dtype.as_numpy_dtype
        self.at = [*case.inputs, random.normal(size=list(map(int, shape))).astype(dtype)]
        self.along = [self.placeholder(p.dtype, p.shape) for p in self.at]
        self.directions, self.others = (
            [random.normal(size=p.shape).astype(p.dtype) for p in self.at] for _ in range(2)
        )
        self.feed = dict(zip(self.points + self.along, self.at + self.directions))
        self.first = gradients(y, self.xs, [self.c])
        self.second = gradients(self.first, self.points, self.along[:-1])
        if case.third:
            self.third = gradients(self.second, self.points, self.along)

    def placeholder(self, dtype, shape):
        return tf.placeholder(dtype, shape if self.case.static else [None] * len(shape))

    def run(self, fetches):
        return self.session.run(fetches, self.feed)

    def derivatives(self):
        return self.run([self.second, self.third] if self.case.third else [self.second])

    def compare(self, below, derivative):
        """Compare `derivative`, of <below, directions>, with central differences of this."""
        step, random = self.case.step, np.random.RandomState(3)
        found = self.run(derivative)
        for point, at, gradient in zip(self.points, self.at, found):
            move = random.normal(size=at.shape).astype(at.dtype)
            ends = [(at + sign * step * move).astype(at.dtype) for sign in (1, -1)]
            up, down = (self.session.run(below, {**self.feed, point: end}) for end in ends)
            moved = (ends[0].astype(np.float64) - ends[1]) / 2
            differences = [
                np.sum((u.astype(np.float64) - d) * v) / 2
                for u, d, v in zip(up, down, self.directions)
            ]
            wanted, size = sum(differences), np.sum(np.abs(gradient * moved))
            size += sum(map(abs, differences)) + step
            error = abs(np.sum(gradient.astype(np.float64) * moved) - wanted)
            assert error <= self.case.tolerance * size, (point.name, error / size)

    def check_symmetry(self):
        """Check that u^T H v = v^T H u, with the Hessian H of <c, f(x)> in x."""
        swapped = dict(zip(self.along, self.others))
        products = self.run(self.second)[:-1]
        others = self.session.run(self.second, {**self.feed, **swapped})[:-1]
        terms = [[np.sum(p.astype(np.float64) * v) for p, v in zip(products, self.others)]]
        terms += [[np.sum(p.astype(np.float64) * v) for p, v in zip(others, self.directions)]]
        size = 1 + np.sum(np.abs(terms))
        assert abs(sum(terms[0]) - sum(terms[1])) <= 100 * self.case.tolerance * size


def check_equal(derivatives, others, tolerance):
    for one, other in zip(derivatives, others):
        for gradient, wanted in zip(one, other):
            size = np.max(np.abs(wanted), initial=1.0)
            np.testing.assert_allclose(gradient, wanted, rtol=0, atol=10 * tolerance * size)


def check(case):
    """Check the second derivatives of a case, the symmetry of the Hessian, and the third."""
    skip_without_gap(case.op_type)
    tf1xent.override_gradients()
    try:
        with tf.Graph().as_default() as graph, quick_session() as session:
            derivatives = Derivatives(case, session, case.function)
            types = {op.type for op in graph.get_operations()}
            assert case.op_type in types, f"the graph has no {case.op_type}: {sorted(types)}"
            if case.runs:
                derivatives.compare(derivatives.first, derivatives.second)
            derivatives.check_symmetry()
            if case.runs and case.third:
                derivatives.compare(derivatives.second, derivatives.third)
            if case.composition or not case.runs:
                same = Derivatives(case, session, case.composition)
                check_equal(derivatives.derivatives(), same.derivatives(), case.tolerance)
    finally:
        tf1xent.restore_gradients()
