"""The focal factor and its derivatives, against mpmath: of surprisals from 1e-37 to infinity."""

import functools

import mpmath
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.support.option_cases import FUNCTIONS, unoptimised
from tests.support.tolerances import smallest_normal, unit_roundoff
from tf1xent._math.focal import focal

DTYPES = ("float32", "float64")
# All of them, and those of the graphs that are built for a constant gamma.
GAMMAS = np.float32([0.0, 0.1, 0.3, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 5.0])
CONSTANTS = np.float32([0.3, 2.0])
SURPRISALS = np.float32([1e-37, 1e-22, 1e-12, 1e-3, 0.1, 0.7, 2.0, 8.0, 60.0])
HIGHEST = 4
DIGITS = 160


def loss_of_surprisal(s, gamma):
    return (-mpmath.expm1(-s)) ** gamma * s


@functools.lru_cache(maxsize=None)
def relative_derivatives(surprisal, gamma):
    """s^n f^(n)(s) for n = 0, ..., HIGHEST + 1."""
    with mpmath.workdps(DIGITS):
        s, gamma = mpmath.mpf(float(surprisal)), mpmath.mpf(float(gamma))
        unit = loss_of_surprisal(s, gamma)  # mpmath's differences want numbers near 1
        series = mpmath.taylor(
            lambda t: loss_of_surprisal(s * (1 + t), gamma) / unit, 0, HIGHEST + 1
        )
        return [unit * mpmath.factorial(n) * term for n, term in enumerate(series)]


class FocalGraph:
    """Derivatives of the focal loss of s (1 + t) in t: each step in s is about as small as s."""

    def __init__(self, dtype, gamma=None, highest=HIGHEST):
        with tf.Graph().as_default() as self.graph:
            self.surprisals = tf.placeholder(dtype, [None])
            self.gamma = tf.placeholder(dtype, []) if gamma is None else gamma
            change = tf.zeros_like(self.surprisals)
            self.derivatives = [focal(self.surprisals * (1 + change), self.gamma)]
            for _ in range(highest):
                self.derivatives += tf.gradients(self.derivatives[-1], change)
        self.session = tf.Session(graph=self.graph, config=unoptimised())

    def run(self, surprisals, gamma=None, tensors=None):
        feed = {self.surprisals: surprisals}
        if gamma is not None:
            feed[self.gamma] = gamma
        return self.session.run(self.derivatives if tensors is None else tensors, feed)


def check(got, gamma, dtype):
    """Fails where a derivative differs by more than roundings in s, log s and gamma explain."""
    for i, s in enumerate(SURPRISALS):
        true = relative_derivatives(s, gamma)
        for order in range(HIGHEST + 1):
            scale = (abs(true[order]) + abs(true[order + 1])) * (1 + abs(np.log(s)))
            # From the third order on, gamma = 5 lets terms of up to 70 times the sum cancel.
            allowed = (8 if order < 3 else 128) * unit_roundoff(dtype) * float(scale)
            allowed += 4 * smallest_normal(dtype)
            error = abs(float(mpmath.mpf(float(got[order][i])) - true[order]))
            assert error <= allowed, (gamma, s, order, got[order][i], float(true[order]))


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_in_the_surprisal(dtype):
    graph = FocalGraph(dtype)
    for gamma in GAMMAS:
        check(graph.run(SURPRISALS, gamma), gamma, dtype)
    for gamma in CONSTANTS:
        check(FocalGraph(dtype, np.dtype(dtype).type(gamma)).run(SURPRISALS), gamma, dtype)


def test_derivatives_that_are_normal_numbers_where_their_factors_are_not():
    """f'''(1e-22) itself, of a step of 1: about 1e33 for gamma = 1/2, and 6 for gamma = 2."""
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        surprisals, gamma = tf.constant([1e-22]), tf.placeholder(tf.float32, [])
        derivatives = [focal(surprisals, gamma)]
        for _ in range(3):
            derivatives += tf.gradients(derivatives[-1], surprisals)
        for value in GAMMAS:
            true = relative_derivatives(np.float32(1e-22), value)
            wanted = [float(true[n] / mpmath.mpf(float(np.float32(1e-22))) ** n) for n in range(4)]
            got = session.run(derivatives, {gamma: value})
            for n in range(4):
                if abs(wanted[n]) < 3e38:
                    np.testing.assert_allclose(got[n][0], wanted[n], rtol=1e-5, atol=1e-37)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_in_gamma(dtype):
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        surprisals, gamma = tf.placeholder(dtype, [1]), tf.placeholder(dtype, [])
        change = tf.zeros_like(surprisals)
        tensors, value = {}, focal(surprisals * (1 + change), gamma)
        for order in range(3):
            tensors[order, 1] = tf.gradients(value, gamma)[0]
            tensors[order, 2] = tf.gradients(tensors[order, 1], gamma)[0]
            # Once more in the surprisal, after gamma: the order does not matter.
            tensors[order + 1, 1, "last"] = tf.gradients(tensors[order, 1], change)[0][0]
            value = tf.gradients(value, change)[0]
        for s in SURPRISALS[1::3]:
            for g in GAMMAS[::2]:
                got = session.run(tensors, {surprisals: [s], gamma: g})
                for key, number in got.items():
                    want, scale = _mixed_derivative(float(s), float(g), *key[:2])
                    allowed = 32 * unit_roundoff(dtype) * scale + 1e3 * smallest_normal(dtype)
                    assert abs(number - want) <= allowed, (s, g, key, number, want)


@functools.lru_cache(maxsize=None)
def _mixed_derivative(s, gamma, order, gamma_order):
    """s^n times the derivative, n times in s and m in gamma; and what its error is measured by."""
    with mpmath.workdps(80):
        unit = loss_of_surprisal(mpmath.mpf(s), mpmath.mpf(gamma))

        def function(t, g):
            return loss_of_surprisal(mpmath.mpf(s) * (1 + t), g) / unit

        point = (mpmath.mpf(0), mpmath.mpf(gamma))
        true, in_s, in_gamma = (
            unit * mpmath.diff(function, point, orders)
            for orders in (
                (order, gamma_order),
                (order + 1, gamma_order),
                (order, gamma_order - 1),
            )
        )
        logarithm = 1 + abs(mpmath.log(s))
        return float(true), float((abs(true) + abs(in_s)) * logarithm + abs(in_gamma))


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", DTYPES)
def test_surprisals_of_zero_and_infinity(dtype):
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        surprisals, gamma = tf.placeholder(dtype, [None]), tf.placeholder(dtype, [])
        derivatives = [focal(surprisals, gamma)]
        for _ in range(4):
            derivatives += tf.gradients(derivatives[-1], surprisals)
        in_gamma = tf.gradients(derivatives[1], gamma)[0]

        # By hand; gamma = 1: s^2 - s^3 / 2 + s^4 / 6, and 0 where the derivative is infinite.
        for value, at_zero in (
            (0.0, [0, 1, 0, 0, 0]),
            (1.0, [0, 0, 2, -3, 4]),
            (2.0, [0, 0, 0, 6, -24]),
            (3.0, [0, 0, 0, 0, 24]),
            (5.0, [0, 0, 0, 0, 0]),
            (0.5, [0, 0, 0, 0, 0]),
            (1.5, [0, 0, 0, 0, 0]),
        ):
            feed = {surprisals: [0.0, 1e4, np.inf], gamma: value}
            got = np.array(session.run(derivatives, feed))
            np.testing.assert_array_equal(got[:, 0], at_zero)
            np.testing.assert_array_equal(got[:, 1], [1e4, 1, 0, 0, 0])
            np.testing.assert_array_equal(got[:, 2], [np.inf, 1, 0, 0, 0])
            assert session.run(in_gamma, feed) == 0

        # A row with NaN is NaN in itself alone.
        got = np.array(session.run(derivatives, {surprisals: [np.nan, 0.5], gamma: 1.5}))
        assert np.isnan(got[:, 0]).all() and np.isfinite(got[:, 1]).all()


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_op_makes_a_number_that_is_not_finite(dtype):
    graph = FocalGraph(dtype, highest=3)
    with graph.graph.as_default():
        tf.gradients([tf.reduce_sum(tensor) for tensor in graph.derivatives], graph.gamma)
        checks = tf.add_check_numerics_ops()
    least, most = float(smallest_normal(dtype)), float(np.finfo(dtype).max) / 16
    surprisals = [0.0, least / 2, least, 1e-37, 1e-22, 1.0, 90.0, 750.0, 1e3, 1e30, most]
    for gamma in GAMMAS:
        graph.run(surprisals, gamma, checks)


# --- In the losses ------------------------------------------------------------------------------

MARGINS = np.float32([-60.0, -30.0, -8.0, -1.0, 0.0, 0.5, 2.0, 8.0, 16.0, 25.0, 40.0, 50.0, 60.0])
LOGITS = np.stack([MARGINS, 0 * MARGINS, 0 * MARGINS + np.float32(0.75)], axis=1)
VECTOR = np.float32([1.25, -0.5, 0.75])
SMOOTHING, CLASS_WEIGHTS = 0.125, [2.0, 0.5, 1.25]
STEP = mpmath.mpf(10) ** -45

ALL = {"label_smoothing": SMOOTHING, "class_weights": CLASS_WEIGHTS}
KINDS = {
    "sparse": ("sparse", {}),
    "dense": ("soft", {}),
    "smoothed": ("sparse", {"label_smoothing": SMOOTHING}),
    "weighted": ("soft", {"class_weights": CLASS_WEIGHTS}),
    "smoothed and weighted": ("sparse", ALL),
}


@functools.lru_cache(maxsize=None)
def true_derivatives(logits, gamma, smoothing, class_weights):
    """Three orders, [order, class]: the gradient of the loss, and of its derivatives along VECTOR.

    The label is class 0. Differences with steps so small that their error does not show.
    """
    with mpmath.workdps(320):
        logits, vector = ([mpmath.mpf(float(x)) for x in xs] for xs in (logits, VECTOR))
        labels = [(1 - mpmath.mpf(smoothing)) * (j == 0) + smoothing / 3 for j in range(3)]
        labels = [label * mpmath.mpf(c) for label, c in zip(labels, class_weights)]

        def loss(steps, unit):
            moved = [x + STEP * (steps * v + (j == unit)) for j, (x, v) in enumerate(point)]
            total = mpmath.log(sum(map(mpmath.exp, moved)))
            terms = zip(labels, moved)
            return sum(q * loss_of_surprisal(total - x, gamma) for q, x in terms if q)

        point, gamma = list(zip(logits, vector)), mpmath.mpf(float(gamma))
        along = [loss(steps, None) for steps in range(3)]
        found = np.empty((3, 3), object)
        for j in range(3):
            d = [loss(steps, j) - along[steps] for steps in range(3)]
            differences = [d[0], d[1] - d[0], d[2] - 2 * d[1] + d[0]]
            found[:, j] = [x / STEP ** (n + 1) for n, x in enumerate(differences)]
        return found


class LossGraph:
    """The gradient of a loss, and of its first and second derivative along VECTOR."""

    def __init__(self, kind, dtype, gamma=None):
        which, options = KINDS[kind]
        with tf.Graph().as_default() as graph:
            self.logits = tf.placeholder(dtype, [None, 3])
            self.gamma = tf.placeholder(dtype, []) if gamma is None else gamma
            labels = tf.zeros(tf.shape(self.logits)[:1], tf.int64)
            if which == "soft":
                labels = tf.one_hot(labels, 3, dtype=dtype)
            loss = FUNCTIONS[which][1](labels, self.logits, focal_gamma=self.gamma, **options)
            self.derivatives = tf.gradients(loss, self.logits)
            for _ in range(2):
                along = self.derivatives[-1] * VECTOR.astype(dtype)
                self.derivatives += tf.gradients(along, self.logits)
        self.session = tf.Session(graph=graph, config=unoptimised())

    def run(self, logits, gamma=None):
        """[order, row, class]"""
        feed = {self.logits: logits}
        if gamma is not None:
            feed[self.gamma] = gamma
        return np.array(self.session.run(self.derivatives, feed))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "kind, dtype",
    [(kind, "float32") for kind in KINDS] + [("dense", "float64"), ("smoothed", "float64")],
)
def test_derivatives_of_losses_to_the_third_order(kind, dtype):
    graph = LossGraph(kind, dtype)
    options = KINDS[kind][1]
    smoothing = options.get("label_smoothing", 0.0)
    class_weights = tuple(options.get("class_weights", [1.0, 1.0, 1.0]))
    for gamma in GAMMAS if kind in ("sparse", "dense") else GAMMAS[1::4]:
        got = graph.run(LOGITS, gamma)
        assert np.isfinite(got).all()
        for i, row in enumerate(LOGITS):
            true = true_derivatives(tuple(row), gamma, smoothing, class_weights)
            bound = 16 * unit_roundoff(dtype) * (1 + abs(float(MARGINS[i])))
            for order in range(3):
                # Of one entry, terms that nearly cancel where classes are about as likely.
                scale = max(abs(true[order])) if abs(MARGINS[i]) < 8 else abs(true[order])
                allowed = 3 * bound * scale + 4 * smallest_normal(dtype)
                errors = abs(got[order, i] - true[order])
                assert (errors <= allowed).all(), (gamma, row, order, got[order, i], true[order])


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_a_confident_row_does_not_reach_others(kind):
    """Losses that underflow to 0 beside those of other rows, by a constant gamma."""
    confident = LOGITS + np.float32([800.0, 0.0, 0.0])
    for gamma in CONSTANTS:
        graph = LossGraph(kind, "float32", gamma)
        together = graph.run(np.concatenate([confident, LOGITS]))
        assert np.isfinite(together).all()
        np.testing.assert_array_equal(together[:, : len(confident)], 0)
        alone = graph.run(LOGITS)
        np.testing.assert_allclose(together[:, len(confident) :], alone, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities_that_are_nearly_or_exactly_1(dtype):
    """(1 - p)^gamma (-log p) and its derivatives in p; gamma 1 at p = 1: 0, 0, 2, -3."""
    probabilities = np.array([1.0, 1.0 - 2.0**-20, 0.5], dtype)
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        given, gamma = tf.placeholder(dtype, [3, 1]), tf.placeholder(dtype, [])
        function = FUNCTIONS["probabilities"][0]
        derivatives = [function(tf.ones([3, 1], dtype), given, focal_gamma=gamma)[:, tf.newaxis]]
        for _ in range(3):
            derivatives += tf.gradients(derivatives[-1], given)
        for value in GAMMAS:
            got = session.run(derivatives, {given: probabilities[:, np.newaxis], gamma: value})
            assert np.isfinite(got).all()
            if value == 1:
                np.testing.assert_allclose(np.array(got)[:, 0, 0], [0, 0, 2, -3], atol=1e-30)
            with mpmath.workdps(DIGITS):
                g = mpmath.mpf(float(value))
                for i, p in enumerate(probabilities[1:], 1):
                    series = mpmath.taylor(lambda x: (1 - x) ** g * -mpmath.log(x), float(p), 3)  # noqa: B023
                    wanted = [float(mpmath.factorial(n) * term) for n, term in enumerate(series)]
                    rtol = 64 * unit_roundoff(dtype)
                    np.testing.assert_allclose(np.array(got)[:, i, 0], wanted, rtol=rtol)


def test_no_derivative_overflows_in_a_clipped_probability():
    """1 / p^3 of the smallest one is no float32, and multiplied by 0 where p is clipped to it."""
    given = np.float32([[0.0, 1.0], [-1.0, 2.0], [0.25, 0.75]])
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        probabilities = tf.placeholder(tf.float32, [3, 2])
        function = FUNCTIONS["probabilities"][0]
        labels = np.float32([[0.5, 0.5]] * 3)
        for gamma in (0.0, 0.5, 3.0):
            derivative = function(labels, probabilities, epsilon=1e-30, focal_gamma=gamma)
            for _ in range(3):
                (derivative,) = tf.gradients(derivative, probabilities)
        checks = tf.add_check_numerics_ops()
        _, got = session.run([checks, derivative], {probabilities: given})
    assert not got[1].any() and got[2].all()
