"""Computes the polynomials of the kernels' exponential and logarithm: prints ops/polynomials.h.

    python tools/kernel_polynomials.py > ops/polynomials.h

Each polynomial interpolates its function at the zeros of a Chebyshev polynomial, which comes within
a small factor of the best of its degree; the printed bound is the largest error found on a fine
grid, of the coefficients as they are printed, rounded to the type. Needs mpmath.
"""

import sys

import mpmath
import numpy as np

mpmath.mp.dps = 60

# Arguments of exp are brought to |r| <= log(2) / (2 steps) by rounding, with a little to spare.
# There are as many steps as one instruction can look up powers of.
EXP_DEGREES = {  # of Q, by type and steps
    "Float": {1: 5, 8: 2, 16: 2},
    "Double": {1: 10, 8: 6},
}
LOG_DEGREES = {"Float": 3, "Double": 7}
DTYPES = {"Float": np.float32, "Double": np.float64}
# Mantissas of log are in [sqrt(1/2), sqrt(2)]; s = f / (2 + f) and z = s * s of it.
LOG_RANGE = (mpmath.mpf(0), (3 - 2 * mpmath.sqrt(2)) ** 2 * mpmath.mpf("1.001"))
GRID = 2001


def exp_remainder(r):
    """(exp(r) - 1) / r."""
    if abs(r) < mpmath.mpf("1e-20"):
        return 1 + r / 2
    return mpmath.expm1(r) / r


def log_remainder(z):
    """R(z) / z, with log((1 + s) / (1 - s)) = 2 s + s R(z) and z = s^2."""
    if z < mpmath.mpf("1e-20"):
        return mpmath.mpf(2) / 3 + 2 * z / 5
    s = mpmath.sqrt(z)
    return (mpmath.log((1 + s) / (1 - s)) / s - 2) / z


def interpolate(function, interval, degree):
    """Returns the coefficients, from the constant up, of the polynomial through the zeros."""
    low, high = interval
    count = degree + 1
    nodes = [
        (low + high) / 2 + (high - low) / 2 * mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * count))
        for i in range(count)
    ]
    matrix = mpmath.matrix(count, count)
    for row, node in enumerate(nodes):
        for column in range(count):
            matrix[row, column] = node**column
    return list(mpmath.lu_solve(matrix, mpmath.matrix([function(node) for node in nodes])))


def largest_error(coefficients, function, interval, weight):
    """Returns the largest weighted error on a grid."""
    low, high = interval
    worst = mpmath.mpf(0)
    for i in range(GRID):
        at = low + (high - low) * i / (GRID - 1)
        value = mpmath.polyval([mpmath.mpf(c) for c in reversed(coefficients)], at)
        worst = max(worst, abs(value - function(at)) * weight(at))
    return worst


def declaration(name, dtype, function, interval, degree, weight, meaning):
    """Returns the C++ text of one array of coefficients."""
    coefficients = [dtype(c) for c in interpolate(function, interval, degree)]
    bound = largest_error([float(c) for c in coefficients], function, interval, weight)
    return array(name, dtype, coefficients, f"{meaning}, error below {mpmath.nstr(bound, 2)}.")


def powers_of_2(name, dtype, steps):
    """Returns the C++ text of the powers of 2 from 2^0 up to 2^1, by steps."""
    powers = [dtype(mpmath.mpf(2) ** (mpmath.mpf(i) / steps)) for i in range(steps)]
    return array(name, dtype, powers, f"2^(i / {steps}).")


def array(name, dtype, numbers, meaning):
    """Returns the C++ text of an array."""
    ctype = {np.float32: "float", np.float64: "double"}[dtype]
    lines = [f"// {meaning}", f"constexpr {ctype} {name}[] = {{"]
    return "\n".join(lines + [f"    {literal(number)}," for number in numbers] + ["};"])


def literal(number):
    """Returns the C++ literal of the very number; C++14 has no hexadecimal ones."""
    is_float = isinstance(number, np.float32)
    digits = f"{number:.9g}" if is_float else f"{number:.17g}"
    return digits + ("" if "." in digits or "e" in digits else ".0") + ("f" if is_float else "")


def parts_of_log2(name, dtype, bits):
    """Returns the C++ text of log(2) as a number of few bits, and the rest."""
    high = dtype(mpmath.floor(mpmath.log(2) * mpmath.mpf(2) ** bits) / mpmath.mpf(2) ** bits)
    low = dtype(mpmath.log(2) - mpmath.mpf(float(high)))
    ctype = {np.float32: "float", np.float64: "double"}[dtype]
    return (
        f"// log(2): {bits} bits, so that products with exponents are exact, and the rest.\n"
        f"constexpr {ctype} {name}High = {literal(high)};\n"
        f"constexpr {ctype} {name}Low = {literal(low)};"
    )


HEAD = """\
// Made by tools/kernel_polynomials.py, which says how; not to be changed by hand.

#ifndef TF1XENT_POLYNOMIALS_H_
#define TF1XENT_POLYNOMIALS_H_

namespace tf1xent {
namespace polynomials {
"""
FOOT = """
}  // namespace polynomials
}  // namespace tf1xent

#endif  // TF1XENT_POLYNOMIALS_H_
"""


def main():
    parts = [
        parts_of_log2("kFloatLog2", np.float32, 15),
        parts_of_log2("kDoubleLog2", np.float64, 41),
    ]
    for kind, dtype in DTYPES.items():
        for steps, degree in EXP_DEGREES[kind].items():
            end = mpmath.log(2) / (2 * steps) * mpmath.mpf("1.001")
            parts.append(
                declaration(
                    *(f"k{kind}Exp{steps}", dtype, exp_remainder, (-end, end), degree),
                    weight=lambda r: abs(r) / mpmath.exp(r),
                    meaning=f"exp(r) = 1 + r Q(r), |r| <= log(2) / {2 * steps}: Q; "
                    "relative to exp(r)",
                )
            )
            if steps > 1:
                parts.append(powers_of_2(f"k{kind}Powers{steps}", dtype, steps))
        parts.append(
            declaration(
                *(f"k{kind}Log", dtype, log_remainder, LOG_RANGE, LOG_DEGREES[kind]),
                weight=lambda z: z / 2,
                meaning="log((1 + s) / (1 - s)) = 2 s + s z Q(z), z = s^2: Q; relative to the log",
            )
        )
    sys.stdout.write(HEAD + "\n" + "\n\n".join(parts) + "\n" + FOOT)


if __name__ == "__main__":
    main()
