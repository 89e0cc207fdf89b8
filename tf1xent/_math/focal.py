"""The focal loss of a surprisal s = -log p: f(s) = (1 - exp(-s))^gamma s, exact to every order.

With q = exp(-s), E = 1 - q and r = s / E, where r(0) = 1; with the falling factorial
(g)_k = gamma (gamma - 1) ... (gamma - k + 1), where (g)_0 = 1:

    d/ds [q E^(gamma-k)] = q [(gamma - k) E^(gamma-k-1) - (gamma - k + 1) E^(gamma-k)],  so that
    d^n/ds^n E^gamma     = q sum_{k=1}^n (g)_k c_{n,k} E^(gamma-k),
                           c_{1,1} = 1,  c_{n+1,k} = c_{n,k-1} - (gamma - k + 1) c_{n,k}.

With d^n/ds^n [s u] = s u^(n) + n u^(n-1), collecting equal powers gives

    f'     = E^gamma (1 + gamma q r)
    f^(n)  = q E^(gamma-n+1) sum_{k=1}^n (g)_{k-1} E^(n-k) [(gamma-k+1) r c_{n,k} + n c_{n-1,k-1}].

For small s the term k = n is the largest: (gamma + 1) (g)_{n-1} s^(gamma+1-n). Nothing cancels in
it, and for gamma = 0, 1, ..., n - 2 its factor (g)_{n-1} is exactly 0, as it should be.

A confident example has s = 1e-23 and a similar ds/dx. Then f''(s) can overflow although
f''(s) (ds/dx)^2 is a normal number. So a derivative in s is never computed without its factors:
`_derivative` computes f^(n)(s) a_1 a_2 ... a_n, where a_1 is the cotangent of f and the other a_i
are changes of s, about as small as s. The power is shared among them, and term k is

    (... E^(n-k)) a_1 (E^y a_2) ... (E^y a_n),   y = gamma / (n - 1) - 1 >= -1,

in which no factor exceeds the reciprocal of the smallest normal number. The product is linear in
each a_i, and its derivative in s is the product of order n + 1 with one more factor. So these
functions are each other's gradients. Derivatives in gamma are of the same form: m of them give

    sum_i binomial(m, i) (log E)^(m-i) E^gamma d^i/dgamma^i (the polynomial in gamma).

s = 0 if the loss has underflowed or a given probability is 1. There f^(n) is n gamma! c_{n-1,gamma}
for gamma = 0, 1, ..., n - 1 (c_{0,0} = 1), and 0 for a larger gamma. For any other gamma it is
infinite, and so are its derivatives in gamma for these. The code takes 0 instead of infinity, so
that the example contributes nothing. That is right for logits, whose a_i are 0 too.
"""

import functools
import math
from typing import Any, Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Tensor

# Gamma, and what is computed from it: a number where it is known, else a scalar tensor.
_Number = Union[float, Tensor]

# From here on exp(-s) is 0 in every dtype, and f(s) = s.
_FLAT = 1e3


def focal(surprisal: Tensor, gamma: Union[np.generic, Tensor, None]) -> Tensor:
    """(1 - exp(-surprisal))^gamma surprisal, of the shape of `surprisal`, which is at least 0.

    `gamma` is at least 0: a NumPy number is a constant, a scalar tensor is differentiated, and None
    means no factor.
    """
    if gamma is None:
        return surprisal
    is_fixed = isinstance(gamma, np.generic)
    gamma = tf.convert_to_tensor(gamma, surprisal.dtype.base_dtype)
    return _derivative(0, None if is_fixed else 0)(surprisal, gamma)


@functools.lru_cache(maxsize=None)
def _derivative(order: int, gamma_order: Optional[int]) -> _tf.Primitive:
    """The primitive (s, gamma, *factors) -> d^n/ds^n d^m/dgamma^m f times the n `factors`.

    n = `order`, m = `gamma_order`; with m None gamma is a constant.
    """
    name = f"Tf1xentFocal{order}" + ("" if gamma_order is None else f"Gamma{gamma_order}")

    @_tf.primitive(name, num_inputs=2 + order)
    def derivative(surprisal: Tensor, gamma: Tensor, *factors: Tensor) -> _tf.Computed:
        known = _tf.constant_value(gamma) if gamma_order is None else None
        exponent = gamma if known is None else float(known)
        if factors:
            return _product(surprisal, exponent, factors, gamma_order or 0), ()
        return _value(surprisal, exponent, gamma_order or 0), ()

    @derivative.gradient
    def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> _tf.Gradients:
        surprisal, gamma, *factors = inputs
        in_gamma = None
        if gamma_order is not None:
            in_gamma = _derivative(order, gamma_order + 1)(surprisal, gamma, *factors)
            in_gamma = tf.reduce_sum(in_gamma * cotangent)
        in_factors = [
            derivative(surprisal, gamma, *factors[:i], cotangent, *factors[i + 1 :])
            for i in range(order)
        ]
        following = _derivative(order + 1, gamma_order)
        return [following(surprisal, gamma, *factors, cotangent), in_gamma, *in_factors]

    return derivative


# Saved graphs name these. Gradients of higher orders are registered when they are first built.
for _order in range(6):
    for _gamma_order in (None, 0, 1, 2):
        _derivative(_order, _gamma_order)


# --- Values -------------------------------------------------------------------------------------


def _value(surprisal: Tensor, gamma: _Number, gamma_order: int) -> Tensor:
    """d^m/dgamma^m f."""
    if not gamma_order:
        return tf.pow(-tf.expm1(-surprisal), gamma) * surprisal
    at_zero, inner = _regular(surprisal)
    value = tf.pow(-tf.expm1(-inner), gamma) * inner * _log_factor(inner) ** gamma_order
    return _tf.where(at_zero, tf.zeros_like(value), value)


def _product(
    surprisal: Tensor, gamma: _Number, factors: Sequence[Tensor], gamma_order: int
) -> Tensor:
    """d^n/ds^n d^m/dgamma^m f times the factors, n of them and at least one."""
    order = len(factors)
    at_zero, inner = _regular(surprisal)
    q, factor = tf.exp(-inner), -tf.expm1(-inner)
    terms = _sums(order, gamma, gamma_order + 1, q, factor, inner / factor).terms
    value = terms[-1]
    for power in range(1, gamma_order + 1):  # the series of E^gamma: (log E)^power / power!
        by_power = _log_factor(inner) ** power / math.factorial(power)
        value = value + terms[-1 - power] * by_power
    if gamma_order > 1:
        value = value * math.factorial(gamma_order)
    if order == 1:
        value = value * tf.pow(factor, gamma)
    limit = tf.zeros_like(surprisal)
    if not gamma_order:
        limit += _at_zero(order, gamma)
    # Select before multiplying: an entry that is not selected must not overflow either.
    value = _tf.where(at_zero, limit, value) * factors[0]
    if order == 1:
        return value
    share = tf.pow(factor, gamma / (order - 1) - 1)
    share = _tf.where(at_zero, tf.ones_like(share), share)
    for change in factors[1:]:
        value = value * (share * change)
    return value


def _regular(surprisal: Tensor) -> Tuple[Tensor, Tensor]:
    """Where the surprisal is 0; and the surprisal with 1 there, and at most `_FLAT`."""
    at_zero = surprisal < np.finfo(surprisal.dtype.as_numpy_dtype).tiny
    ones = tf.ones_like(surprisal)
    inner = _tf.where(surprisal > _FLAT, _FLAT * ones, surprisal)  # NaN stays NaN
    return at_zero, _tf.where(at_zero, ones, inner)


def _log_factor(inner: Tensor) -> Tensor:
    """log(1 - exp(-s)), accurate for small and for large s."""
    q = tf.exp(-inner)
    return _tf.where(q < 0.5, tf.log1p(-tf.minimum(q, 0.5)), tf.log(-tf.expm1(-inner)))


# --- Coefficients -------------------------------------------------------------------------------


class _Series:
    """The first Taylor coefficients, in gamma, of a number or tensor."""

    def __init__(self, terms: Iterable[Any]) -> None:
        self.terms = list(terms)

    @classmethod
    def of(cls, value: _Number, slope: float, size: int) -> "_Series":
        """`value` + `slope` (change of gamma), with `size` coefficients."""
        return cls(([value, slope] + [0.0] * size)[:size])

    def __add__(self, other: "_Series") -> "_Series":
        return _Series(a + b for a, b in zip(self.terms, other.terms))

    def __mul__(self, other: Any) -> "_Series":
        """The product with a series, or with a number or tensor that does not depend on gamma."""
        if not isinstance(other, _Series):
            return _Series(a * other for a in self.terms)
        return _Series(
            sum(self.terms[j] * other.terms[i - j] for j in range(i + 1))
            for i in range(len(self.terms))
        )


def _sums(
    order: int, gamma: _Number, size: int, q: Tensor, factor: Tensor, ratio: Tensor
) -> _Series:
    """f^(n) / E^(gamma-n+1) as a series of `size` coefficients."""
    if order == 1:
        return _Series.of(gamma, 1.0, size) * (q * ratio) + _Series.of(1.0, 0.0, size)
    above, below = _coefficients(order, gamma, size), _coefficients(order - 1, gamma, size)
    total, falling = None, _Series.of(1.0, 0.0, size)  # (g)_{k-1}
    for k in range(1, order + 1):
        of_ratio = _Series.of(gamma - (k - 1), 1.0, size) * above[k]
        term = falling * (of_ratio * ratio + below[k - 1] * float(order))
        total = term if total is None else total * factor + term
        falling = falling * _Series.of(gamma - (k - 1), 1.0, size)
    return total * q


def _coefficients(order: int, gamma: _Number, size: int) -> List[_Series]:
    """c_{n,k} for k = 0, ..., n, where n is at least 1, as series."""
    zero, one = _Series.of(0.0, 0.0, size), _Series.of(1.0, 0.0, size)
    row = [zero, one]
    for _ in range(1, order):
        shifted = row + [zero]
        for k in range(len(row), 0, -1):
            shifted[k] = row[k - 1] + _Series.of(k - 1 - gamma, -1.0, size) * shifted[k]
        row = shifted
    return row


def _at_zero(order: int, gamma: _Number) -> _Number:
    """f^(n)(0): a number, or a tensor if `gamma` is one."""
    by_gamma = {0.0: 1.0} if order == 1 else {}
    for k in range(1, order):
        (coefficient,) = _coefficients(order - 1, float(k), 1)[k].terms
        by_gamma[float(k)] = order * math.factorial(k) * coefficient
    if isinstance(gamma, float):
        return by_gamma.get(gamma, 0.0)
    return sum(tf.cast(tf.equal(gamma, k), gamma.dtype) * value for k, value in by_gamma.items())
