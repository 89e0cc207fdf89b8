"""The oracle: softmax cross-entropy and its derivatives, straight from their definitions.

It shares nothing with the library. No pivot, no log1p, no expm1: every formula is the one
of a textbook, evaluated with so many digits that its cancellations do not matter. A float
is a rational number, so its value enters here without any error.

Results are object arrays of mpmath numbers; rounding them would spoil small ones.

    lse = log sum_j exp(x_j)        p_j = exp(x_j) / sum_i exp(x_i)
    sparse loss = lse - x_y         dense loss = sum_j l_j (lse - x_j)

A class with a logit of -inf adds nothing to a loss and has derivatives of zero, as long
as it carries no label. A row with NaN or +inf is NaN everywhere.
"""

import mpmath
import numpy as np

_NAN = mpmath.mpf("nan")
_INF = mpmath.mpf("inf")


def _digits(logits):
    """Decimal digits that leave 60 after every cancellation: 1 - p may be the smallest normal
    number, and lse - x_y may cancel all that lies between it and the largest logit."""
    logits = np.asarray(logits)
    finite = np.abs(logits[np.isfinite(logits)].astype(np.float64))
    largest = max(1.0, float(finite.max()) if finite.size else 1.0)
    return int(60 - np.log10(np.finfo(logits.dtype).tiny) + np.log10(largest))


def exactly(values):
    """The numbers of a float array (any shape) as an object array of mpmath numbers."""
    values = np.asarray(values, dtype=np.float64)
    result = np.empty(values.shape, dtype=object)
    for index, value in np.ndenumerate(values):
        result[index] = mpmath.mpf(float(value))
    return result


def log_sum_exp(logits):
    """log sum_j exp(x_j) of mpmath numbers, at the working precision."""
    return mpmath.log(sum((mpmath.exp(x) for x in logits), mpmath.mpf(0)))


def softmax(logits):
    """exp(x_j) / sum_i exp(x_i) of mpmath numbers, at the working precision."""
    exps = [mpmath.exp(x) for x in logits]
    total = sum(exps, mpmath.mpf(0))
    return [e / total for e in exps]


def sparse_loss_of(logits, label):
    """The loss of one row of mpmath numbers, for `directional_derivative`."""
    return log_sum_exp(logits) - logits[label]


def dense_loss_of(logits, labels):
    """The loss of one row of mpmath numbers, for `directional_derivative`."""
    normalizer = log_sum_exp(logits)
    return sum((l_j * (normalizer - x_j) for l_j, x_j in zip(labels, logits)), mpmath.mpf(0))


def directional_derivative(function, point, directions, digits=60):
    """The derivative of order len(directions) of `function` (a list of mpmath numbers to one
    number) along the directions, by mpmath's own numerical differentiation."""
    with mpmath.workdps(digits):
        point = [mpmath.mpf(float(x)) for x in point]
        directions = [[mpmath.mpf(float(d)) for d in direction] for direction in directions]

        def along(*steps):
            return function(
                [
                    x + sum(step * direction[j] for step, direction in zip(steps, directions))
                    for j, x in enumerate(point)
                ]
            )

        if not directions:
            return along()
        if len(directions) == 1:
            return mpmath.diff(along, 0, 1)
        return mpmath.diff(along, (0,) * len(directions), (1,) * len(directions))


def central_difference(function, point, direction, step=1e-5):
    """(f(x + h v) - f(x - h v)) / 2h in float64, for any `function` of a float64 array."""
    point = np.asarray(point, np.float64)
    direction = np.asarray(direction, np.float64)
    ahead = np.asarray(function(point + step * direction), np.float64)
    behind = np.asarray(function(point - step * direction), np.float64)
    return (ahead - behind) / (2.0 * step)


class _Row:
    """The softmax of one row, kept, since every derivative is made of it."""

    def __init__(self, logits):
        self.is_nan = bool(np.any(np.isnan(logits)) or np.any(np.isposinf(logits)))
        self.masked = np.isneginf(logits)
        self.is_nan = self.is_nan or bool(np.all(self.masked))
        if self.is_nan:
            return
        self.logits = [mpmath.mpf(float(x)) for x in logits]
        exps = [mpmath.mpf(0) if m else mpmath.exp(x) for x, m in zip(self.logits, self.masked)]
        total = sum(exps, mpmath.mpf(0))
        self.normalizer = mpmath.log(total)
        self.probabilities = [e / total for e in exps]

    def surprisal(self, j):
        """-log p_j"""
        return _INF if self.masked[j] else self.normalizer - self.logits[j]

    def mean(self, values):
        return sum((p * v for p, v in zip(self.probabilities, values)), mpmath.mpf(0))

    def center(self, values):
        mean = self.mean(values)
        return [v - mean for v in values]


class Reference:
    """Losses and derivatives of a batch of logits [batch_size, num_classes].

    Labels of the sparse loss are int [batch_size]; labels of the dense loss and all vectors
    are float [batch_size, num_classes].
    """

    def __init__(self, logits):
        self.logits = np.asarray(logits)
        self.shape = self.logits.shape
        self.digits = _digits(self.logits)
        known = {}
        with mpmath.workdps(self.digits):
            for row in self.logits:
                if row.tobytes() not in known:
                    known[row.tobytes()] = _Row(row)
        self._rows = [known[row.tobytes()] for row in self.logits]

    def _per_row(self, function, shape):
        result = np.empty(shape, dtype=object)
        with mpmath.workdps(self.digits):
            for i, row in enumerate(self._rows):
                if row.is_nan:
                    result[i] = _NAN
                else:
                    result[i] = function(row, i)
        return result

    def probabilities(self):
        return self._per_row(lambda row, i: row.probabilities, self.shape)

    def sparse_loss(self, labels):
        """lse - x_y, [batch_size]; +inf where the label's own class is masked."""
        return self._per_row(lambda row, i: row.surprisal(labels[i]), self.shape[:1])

    def sparse_gradient(self, labels):
        """d loss / dx_j = p_j - (j == y)"""

        def gradient(row, i):
            return [p - (1 if j == labels[i] else 0) for j, p in enumerate(row.probabilities)]

        return self._per_row(gradient, self.shape)

    def dense_loss(self, labels):
        """sum_j l_j (lse - x_j), [batch_size]; a class with label 0 adds nothing, even masked."""
        labels = exactly(labels)

        def loss(row, i):
            terms = (l_j * row.surprisal(j) for j, l_j in enumerate(labels[i]) if l_j != 0)
            return sum(terms, mpmath.mpf(0))

        return self._per_row(loss, self.shape[:1])

    def dense_gradient(self, labels):
        """d loss / dx_j = S p_j - l_j with S = sum_j l_j, whatever the labels sum to."""
        labels = exactly(labels)

        def gradient(row, i):
            total = sum(labels[i], mpmath.mpf(0))
            return [total * p - l_j for p, l_j in zip(row.probabilities, labels[i])]

        return self._per_row(gradient, self.shape)

    def labels_gradient(self):
        """d loss / dl_j = lse - x_j; a masked class adds 0 to this derivative too."""

        def gradient(row, i):
            return [mpmath.mpf(0) if m else row.surprisal(j) for j, m in enumerate(row.masked)]

        return self._per_row(gradient, self.shape)

    def mixed_product(self, vector):
        """sum_i m_i d2 loss / dl_i dx_j = sum_i m_i (p_j - (i == j)): from labels to logits."""
        return self.dense_gradient(vector)

    def mixed_product_transposed(self, vector):
        """sum_j v_j d2 loss / dl_i dx_j = <p, v> - v_i: from logits to labels."""
        vector = exactly(vector)
        return self._per_row(lambda row, i: [-c for c in row.center(vector[i])], self.shape)

    def derivative_product(self, vectors, labels=None):
        """The gradient of the derivative along all `vectors`: of order len(vectors) + 1 >= 2.

        One vector: H v, with H_ij = S p_i ((i == j) - p_j). Order n is the joint cumulant of
        the vectors and of an indicator of class j under p, times S, where S = 1 for the sparse
        loss (labels None) and sum_j l_j for the dense one.
        """
        vectors = [exactly(vector) for vector in vectors]
        weights = None if labels is None else exactly(labels)

        def product(row, i):
            total = 1 if weights is None else sum(weights[i], mpmath.mpf(0))
            cumulants = _cumulants(row, [vector[i] for vector in vectors])
            return [total * p * c for p, c in zip(row.probabilities, cumulants)]

        return self._per_row(product, self.shape)

    def product_scale(self, vectors, labels=None):
        """What the error of an entry of `derivative_product` is measured by.

        For one vector v, S p_j (|w_j| + <p, |w|>): w is v, less the v_k of the largest logit where
        that class has p_k > 1/2. For several, the same with the product of their sizes, each
        |w_j| + <p, |w|>, in the place of |w|.
        """
        vectors = [exactly(vector) for vector in vectors]
        weights = None if labels is None else exactly(labels)

        def scale(row, i):
            total = 1 if weights is None else sum((abs(l_j) for l_j in weights[i]), mpmath.mpf(0))
            pivot = int(np.argmax(self.logits[i]))
            sizes = [mpmath.mpf(1)] * self.shape[1]
            for vector in vectors:
                shift = vector[i][pivot] if row.probabilities[pivot] > 0.5 else 0
                w = [abs(v - shift) for v in vector[i]]
                mean = row.mean(w) if len(vectors) > 1 else 0
                sizes = [size * (w_j + mean) for size, w_j in zip(sizes, w)]
            mean = row.mean(sizes)
            return [total * p * (size + mean) for p, size in zip(row.probabilities, sizes)]

        return self._per_row(scale, self.shape)


def _cumulants(row, vectors):
    """For each j, the joint cumulant of `vectors` and of the indicator of j, divided by p_j."""
    centered = [row.center(vector) for vector in vectors]
    if len(centered) == 1:
        return centered[0]
    if len(centered) == 2:
        a, b = centered
        return row.center([a_j * b_j for a_j, b_j in zip(a, b)])
    if len(centered) == 3:
        a, b, c = centered
        cubes = row.center([a_j * b_j * c_j for a_j, b_j, c_j in zip(a, b, c)])
        ab = row.mean([a_j * b_j for a_j, b_j in zip(a, b)])
        ac = row.mean([a_j * c_j for a_j, c_j in zip(a, c)])
        bc = row.mean([b_j * c_j for b_j, c_j in zip(b, c)])
        return [
            cube - a_j * bc - b_j * ac - c_j * ab for cube, a_j, b_j, c_j in zip(cubes, a, b, c)
        ]
    raise NotImplementedError("derivatives above the fourth order are not tabulated here")
