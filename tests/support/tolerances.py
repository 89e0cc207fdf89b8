"""The accuracy contract, as numbers: what relative error a loss or a derivative may have.

With u the unit roundoff of the dtype and k the largest logit of the row, an entry may be
off by  u (16 (1 + max_j |x_j - x_k|) + sqrt(num_classes)), relative to its true value, as
long as that is a normal number of the dtype; below it, by one smallest normal number.
"""

import mpmath
import numpy as np


def unit_roundoff(dtype):
    return float(np.finfo(dtype).eps) / 2.0


def smallest_normal(dtype):
    return float(np.finfo(dtype).tiny)


def relative_bound(logits):
    """The contract's bound for each row of logits [batch_size, num_classes].

    Classes that are masked with -inf are left out of the maximum. Those so far below that
    their probability underflows count as far as that and no farther: they cannot matter,
    and for logits of 1e30 the bound would else allow any answer.
    """
    logits = np.asarray(logits)
    exact = logits.astype(np.float64)
    farthest = -np.log(smallest_normal(logits.dtype))
    bounds = np.zeros(len(exact))
    for i, row in enumerate(exact):
        row = row[np.isfinite(row)]
        spread = min(row.max() - row.min(), farthest) if row.size else 0.0
        terms = 16.0 * (1.0 + spread) + np.sqrt(exact.shape[1])
        bounds[i] = unit_roundoff(logits.dtype) * terms
    return bounds


def gradient_scale(reference, labels):
    """What the error of a dense gradient S p_j - l_j is measured by, [batch_size, num_classes].

    The two terms may cancel by nature: the larger of them. But for a class k with p_k > 1/2,
    where subtracting S p_k from l_k is what loses everything, the larger of the labels of the
    other classes and of S (1 - p_k).
    """
    probabilities = reference.probabilities()
    labels = np.asarray(labels, np.float64)
    scale = np.empty(reference.shape, dtype=object)
    totals = np.abs(labels.sum(axis=1))
    with mpmath.workdps(reference.digits):
        for i, j in np.ndindex(*reference.shape):
            p = probabilities[i, j]
            if p > 0.5:
                others = np.sum(np.abs(np.delete(labels[i], j)))
                scale[i, j] = max(mpmath.mpf(float(others)), (1 - p) * float(totals[i]))
            else:
                scale[i, j] = max(p * float(totals[i]), abs(float(labels[i, j])))
    return scale


def errors_over_bound(got, want, logits, scale=None, underflow=0.0):
    """Error of each entry divided by the error that it may have; at most 1 is within contract.

    `got` is a float array, `want` an array of mpmath numbers of the same shape, with the rows
    of `logits` along its first axis. `scale` is what the error is relative to, if not `want`
    itself. `underflow` is how many smallest normal numbers the result may be off besides, where
    it adds up products that may underflow one by one. Infinities and NaN must be where they are
    true, and nowhere else.
    """
    got = np.asarray(got)
    assert got.shape == want.shape, (got.shape, want.shape)
    dtype = np.asarray(logits).dtype
    tiny, largest = smallest_normal(dtype), float(np.finfo(dtype).max)
    bounds = relative_bound(logits).reshape((-1,) + (1,) * (want.ndim - 1))
    true = want.astype(np.float64)  # and what that lacks of the true value:
    rest = np.where(np.isfinite(true), want - np.where(np.isfinite(true), true, 0), 0)
    magnitude = np.abs(true if scale is None else scale.astype(np.float64))
    with np.errstate(all="ignore"):
        allowed = bounds * magnitude + underflow * tiny
        # A result of 0 for a true 0 is within; so is anything below the normal numbers.
        allowed = np.where(np.abs(true) < tiny, np.maximum(allowed, tiny), allowed)
        allowed = np.maximum(allowed, np.finfo(np.float64).tiny)
        errors = np.abs((got.astype(np.float64) - true) - rest.astype(np.float64)) / allowed
    errors[~np.isfinite(got)] = np.inf
    beyond = np.abs(true) > largest  # infinity included
    errors[beyond] = np.where(got[beyond] == np.inf * np.sign(true[beyond]), 0.0, np.inf)
    undefined = np.isnan(true)
    errors[undefined] = np.where(np.isnan(got[undefined]), 0.0, np.inf)
    return errors


def assert_within_contract(got, want, logits, scale=None, underflow=0.0, what="result"):
    """Fails with the worst entry, its row and its error where `got` misses the contract."""
    errors = errors_over_bound(got, want, logits, scale, underflow)
    if not errors.size or errors.max() <= 1.0:
        return
    index = np.unravel_index(int(np.argmax(errors)), errors.shape)
    row = np.asarray(logits)[index[0]]
    value, true = np.asarray(got)[index], mpmath.nstr(want[index], 12)
    raise AssertionError(
        f"{what}: {int(np.sum(~(errors <= 1.0)))} of {errors.size} entries miss the accuracy "
        f"contract; the worst, {index}, by a factor of {errors[index]:.3g}: got {value!r}, "
        f"true value {true}, logits {np.array2string(row, threshold=12)}"
    )


def assert_rounded_once(got, want, dtype):
    """Asserts that half or bfloat16 results are those of float32, rounded to the nearest."""
    # Half of the last place of 11 or 8 binary digits, and of the smallest half number.
    roundoff, smallest = (2.0**-11, 2.0**-25) if dtype == "half" else (2.0**-8, 1e-38)
    want = want.astype(np.float64)
    error = np.abs(got.astype(np.float64) - want)
    assert np.all(error <= 1.01 * roundoff * np.abs(want) + smallest), error.max()
