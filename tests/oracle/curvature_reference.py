"""Dense curvature matrices of small networks, straight from their definitions, by NumPy alone.

It shares nothing with the library and nothing with TensorFlow. A `Jet` is an array of numbers, each
with its gradient and Hessian in the n variables of a problem; arithmetic on jets is the chain rule
to second order, so derivatives are exact but for rounding. The networks and losses are written out
as formulas, and every matrix is the one of its definition:

    Hessian             d2 loss / d x_i d x_j
    GGN                 J^T H J, with H the Hessian of the loss of the outputs as its variables
    Fisher              sum_i w_i sum_y P(y) s_iy s_iy^T,   s_iy the gradient of log P(y)
    empirical Fisher    sum_i w_i g_i g_i^T,                g_i the gradient of the loss of row i
"""

import numpy as np


class Jet:
    """An array with first derivatives [..., n] and second derivatives [..., n, n]."""

    __array_ufunc__ = None  # so that NumPy arrays leave arithmetic to this class

    def __init__(self, value, first, second):
        self.value, self.first, self.second = value, first, second

    @property
    def shape(self):
        return self.value.shape

    def through(self, value, slope, curvature):
        """f(self), of the arrays f(value), f'(value) and f''(value)."""
        outer = self.first[..., :, None] * self.first[..., None, :]
        slope, curvature = np.asarray(slope), np.asarray(curvature)
        second = slope[..., None, None] * self.second + curvature[..., None, None] * outer
        return Jet(value, slope[..., None] * self.first, second)

    def __add__(self, other):
        other = constant(other, self)
        return Jet(self.value + other.value, self.first + other.first, self.second + other.second)

    def __mul__(self, other):
        other = constant(other, self)
        mixed = self.first[..., :, None] * other.first[..., None, :]
        return Jet(
            self.value * other.value,
            self.value[..., None] * other.first + other.value[..., None] * self.first,
            self.value[..., None, None] * other.second
            + other.value[..., None, None] * self.second
            + mixed
            + np.swapaxes(mixed, -1, -2),
        )

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + -other

    def __rsub__(self, other):
        return -self + other

    def __pow__(self, exponent):
        x = self.value
        if exponent == 0:
            return self * 0.0 + 1.0
        slope = exponent * x ** (exponent - 1)
        curvature = exponent * (exponent - 1) * x ** (exponent - 2) if exponent != 1 else 0 * x
        return self.through(x**exponent, slope, curvature)

    def __getitem__(self, key):
        """Of the array's own axes; the derivatives follow."""
        key = key if isinstance(key, tuple) else (key,)
        if any(part is Ellipsis for part in key):
            (at,) = (i for i, part in enumerate(key) if part is Ellipsis)
            given = sum(part is not None for part in key) - 1
            filled = (slice(None),) * (self.value.ndim - given)
            key = key[:at] + filled + key[at + 1 :]
        return Jet(self.value[key], self.first[key], self.second[key])

    def __matmul__(self, other):
        return (self[:, :, None] * other[None, :, :]).sum(1)

    def sum(self, axis):
        axis = axis % self.value.ndim
        return Jet(self.value.sum(axis), self.first.sum(axis), self.second.sum(axis))

    def reshape(self, *shape):
        n = self.first.shape[-1]
        return Jet(
            self.value.reshape(shape),
            self.first.reshape(shape + (n,)),
            self.second.reshape(shape + (n, n)),
        )


def constant(value, like):
    """An array without derivatives, as a jet with as many variables as `like`."""
    if isinstance(value, Jet):
        return value
    value, n = np.asarray(value, np.float64), like.first.shape[-1]
    return Jet(value, np.zeros(value.shape + (n,)), np.zeros(value.shape + (n, n)))


def variables(arrays):
    """Arrays as jets in the numbers of all of them, in their order."""
    sizes = [np.size(array) for array in arrays]
    ends = np.cumsum([0] + sizes)
    n, jets = int(ends[-1]), []
    for array, begin, end in zip(arrays, ends[:-1], ends[1:]):
        value = np.asarray(array, np.float64)
        first = np.eye(n)[begin:end].reshape(value.shape + (n,))
        jets.append(Jet(value, first, np.zeros(value.shape + (n, n))))
    return jets


def concatenated(jets):
    """Jets one below the other, as the parts of a partitioned variable are."""
    return Jet(*(np.concatenate([getattr(j, a) for j in jets]) for a in _PARTS))


_PARTS = ("value", "first", "second")


def exp(jet):
    value = np.exp(jet.value)
    return jet.through(value, value, value)


def log(jet):
    return jet.through(np.log(jet.value), 1 / jet.value, -1 / jet.value**2)


def tanh(jet):
    value = np.tanh(jet.value)
    slope = 1 - value**2
    return jet.through(value, slope, -2 * value * slope)


# --- Networks ---------------------------------------------------------------------------------


def mlp(features, w1, b1, w2, b2):
    """tanh(features w1 + b1) w2 + b2"""
    return tanh(constant(features, w1) @ w1 + b1) @ w2 + b2


def linear(features, w, b):
    """features w + b"""
    return constant(features, w) @ w + b


def embedding(tokens, table, w, b):
    """tanh(the sum of the table's rows of the tokens of an example) w + b"""
    return tanh(table[np.asarray(tokens)].sum(1)) @ w + b


# --- Losses of one row each -------------------------------------------------------------------


def log_probabilities(logits):
    """x_j - log sum_k exp(x_k), and that logarithm [rows]."""
    largest = logits.value.max(-1, keepdims=True)
    normalizer = log(exp(logits - largest).sum(-1)) + largest[..., 0]
    return logits - normalizer[..., None], normalizer


def cross_entropy(
    logits,
    targets,
    *,
    weights=1.0,
    class_weights=1.0,
    label_smoothing=0.0,
    z_loss=0.0,
    focal_gamma=0.0,
    temperature=1.0,
):
    """weight (sum_j c_j q_j (1 - p_j)^focal_gamma (-log p_j) + z_loss z^2) of each row [rows].

    `targets` [rows, classes] are distributions; q = (1 - label_smoothing) targets +
    label_smoothing / classes; p and the logarithm z are those of logits / temperature. A row of
    weight 0 does not count.
    """
    logits = logits * (1 / temperature)
    log_p, normalizer = log_probabilities(logits)
    smooth = (1 - label_smoothing) * targets + label_smoothing / logits.shape[-1]
    terms = -(log_p * (smooth * class_weights))
    if focal_gamma:
        terms = terms * (1 - exp(log_p)) ** focal_gamma
    return (terms.sum(-1) + normalizer * normalizer * z_loss) * weights


# --- Matrices ---------------------------------------------------------------------------------


def gauss_newton(outputs, loss):
    """J^T H J; `loss` maps a jet of the outputs' shape to a scalar jet."""
    (as_variables,) = variables([outputs.value])
    jacobian = outputs.first.reshape(outputs.value.size, -1)
    return jacobian.T @ loss(as_variables).second @ jacobian


def fisher(outputs, distribution, weights):
    """The sum over rows i and outcomes y of w_i P(y) s s^T, s the gradient of log P(y)."""
    total = 0.0
    rows = outputs.reshape(-1, outputs.shape[-1])
    for i, weight in enumerate(np.ravel(weights)):
        for probability, score in _outcomes(rows[i], distribution):
            total = total + weight * probability * np.outer(score, score)
    return total


def _outcomes(row, distribution):
    """The (probability, gradient of its logarithm) of each outcome, for outputs [k]."""
    if distribution == "categorical":
        log_p, _ = log_probabilities(row[None])
        return [(np.exp(log_p.value[0, c]), log_p.first[0, c]) for c in range(row.shape[0])]
    found = []
    for c in range(row.shape[0]):
        z = row[c]
        if distribution == "bernoulli":
            log_one, log_zero = -log(1 + exp(-z)), -log(1 + exp(z))
            found += [(np.exp(p.value), p.first) for p in (log_one, log_zero)]
        else:  # the second moment of a normal variable is that of -1 and 1 with equal chances
            found += [(0.5, sign * z.first) for sign in (-1, 1)]
    return found


def empirical_fisher(losses, weights):
    """sum_i w_i g_i g_i^T of the losses [rows]."""
    gradients = losses.first.reshape(losses.value.size, -1)
    return (gradients.T * np.ravel(weights)) @ gradients
