"""The losses with options, one example at a time, straight from their definition.

It shares nothing with the library and nothing with TensorFlow: labels are written out as numbers,
one per class, classes and rows that do not take part are dropped, and what is left is evaluated
with so many digits that no cancellation matters. Derivatives are differences of such values over
steps of 1e-30, so that no rule of differentiation is written twice.

For one example with logits a, the classes that take part being j = 1 ... K:

    x_j  = softcap tanh(a_j / softcap) / temperature + logit_adjustment_j
    z    = log sum_j exp(x_j),   p_j = exp(x_j - z)
    q_j  = (1 - label_smoothing) l_j + label_smoothing / K
    loss = weight (sum_j c_j q_j (1 - p_j)^focal_gamma (z - x_j) + z_loss z^2)

and with probabilities in the place of logits, P_j = min(max(p_j, epsilon), 1):

    loss = weight sum_j c_j q_j (1 - P_j)^focal_gamma (-log P_j)
"""

import math

import mpmath
import numpy as np

DIGITS = 100
STEP = mpmath.mpf(10) ** -30


def smoothed(labels, label_smoothing):
    """(1 - label_smoothing) l_j + label_smoothing / K, of the K classes that take part."""
    return [(1 - label_smoothing) * l_j + label_smoothing / len(labels) for l_j in labels]


def cross_entropy(labels, surprisals, probabilities, class_weights, label_smoothing, focal_gamma):
    """sum_j c_j q_j (1 - p_j)^focal_gamma (-log p_j)"""
    total = mpmath.mpf(0)
    targets = smoothed(labels, label_smoothing)
    for q, surprisal, p, c in zip(targets, surprisals, probabilities, class_weights):
        focus = (1 - p) ** focal_gamma if focal_gamma else 1
        total += c * q * focus * surprisal
    return total


def loss_of_logits(
    logits,
    labels,
    class_weights,
    weight,
    *,
    label_smoothing=0,
    z_loss=0,
    temperature=1,
    focal_gamma=0,
    softcap=None,
    logit_adjustment=None,
):
    """The loss of one example, of lists of mpmath numbers, one for each class that takes part."""
    label_smoothing, z_loss, temperature, focal_gamma = (
        mpmath.mpf(number) for number in (label_smoothing, z_loss, temperature, focal_gamma)
    )
    if softcap is not None:
        logits = [softcap * mpmath.tanh(a / softcap) for a in logits]
    logits = [a / temperature for a in logits]
    if logit_adjustment:
        logits = [x + adjustment for x, adjustment in zip(logits, logit_adjustment)]
    exponentials = [mpmath.exp(x) for x in logits]
    total = sum(exponentials)
    normalizer = mpmath.log(total)
    surprisals = [normalizer - x for x in logits]
    probabilities = [e / total for e in exponentials]
    loss = cross_entropy(
        labels, surprisals, probabilities, class_weights, label_smoothing, focal_gamma
    )
    return weight * (loss + z_loss * normalizer**2)


def loss_of_probabilities(
    probabilities,
    labels,
    class_weights,
    weight,
    *,
    epsilon=1e-10,
    label_smoothing=0,
    focal_gamma=0,
):
    """The loss of one example, of lists of mpmath numbers, one for each class."""
    epsilon, label_smoothing, focal_gamma = (
        mpmath.mpf(number) for number in (epsilon, label_smoothing, focal_gamma)
    )
    clipped = [min(max(p, epsilon), mpmath.mpf(1)) for p in probabilities]
    surprisals = [-mpmath.log(p) for p in clipped]
    return weight * cross_entropy(
        labels, surprisals, clipped, class_weights, label_smoothing, focal_gamma
    )


def derivatives(function, point, vector):
    """The gradient of `function` (a list of mpmath numbers to one number), and its Hessian times
    `vector`, by forward differences."""
    ahead = [x + STEP * v for x, v in zip(point, vector)]
    here, there = function(point), function(ahead)
    gradient, product = [], []
    for i in range(len(point)):
        stepped, both = list(point), list(ahead)
        stepped[i] += STEP
        both[i] += STEP
        at_stepped = function(stepped)
        gradient.append((at_stepped - here) / STEP)
        product.append((function(both) - at_stepped - there + here) / STEP**2)
    return gradient, product


def hardest(losses, counts, top_k):
    """Which rows are in the sum of the `top_k` largest losses, an integer or a fractions.Fraction
    of the rows that count: an array of bool, in which the first of equals come first."""
    order = [i for i in range(losses.size) if counts.flat[i]]
    order.sort(key=lambda i: (-losses.flat[i], i))
    number = top_k if isinstance(top_k, int) else math.ceil(top_k * len(order))
    chosen = np.zeros(losses.shape, bool)
    chosen.flat[order[:number]] = True
    return chosen


_ARGUMENTS = ("logits", "labels", "class_weights", "logit_adjustment", "weights")


class OptionReference:
    """Losses and derivatives of a batch of any rank; the options are the library's, by its names.

    `labels` are integers of the shape of `logits` without `axis`, or distributions that broadcast
    to the shape of `logits`. `skip_missing`: a row of distributions that are all zero takes no
    part. `logits` are probabilities where `formula` is `loss_of_probabilities`.
    """

    def __init__(
        self,
        labels,
        logits,
        *,
        mask=None,
        ignore_label=None,
        invalid_labels=None,
        weights=None,
        class_weights=None,
        logit_adjustment=None,
        class_mask=None,
        axis=-1,
        skip_missing=False,
        formula=loss_of_logits,
        **numbers,
    ):
        labels, logits = np.asarray(labels), np.asarray(logits)
        self.formula, self.numbers, self.axis = formula, numbers, axis
        self.shape = np.moveaxis(logits, axis, -1).shape  # of the rows, and the number of classes
        self.rows = self.shape[:-1]
        self.is_sparse = labels.shape == self.rows and np.issubdtype(labels.dtype, np.integer)
        given = {"logits": logits, "class_weights": class_weights, "weights": weights}
        given["logit_adjustment"] = logit_adjustment
        if not self.is_sparse:
            given["labels"] = np.broadcast_to(labels, logits.shape)
        self.arguments = {
            name: np.asarray(value, np.float64)
            for name, value in given.items()
            if value is not None
        }
        # Where in each argument's own, flattened entries those of a row are.
        self._places = {
            name: self._by_row(name, np.arange(value.size).reshape(value.shape))
            for name, value in self.arguments.items()
        }
        self.labels = labels
        self.open = np.ones(self.shape, bool)
        if class_mask is not None:
            self.open[...] = self._by_row("class_mask", np.asarray(class_mask, bool))
        self.counts = np.ones(self.rows, bool)
        self.is_nan = np.zeros(self.rows, bool)
        self._leave_out(mask, ignore_label, invalid_labels, skip_missing)

    def _by_row(self, name, values):
        """`values` of an argument, broadcast to [..., num_classes], or of weights to [..., 1]."""
        if name == "weights":
            return np.broadcast_to(values, self.rows)[..., np.newaxis]
        if name == "labels" or np.ndim(values) == len(self.shape) > 1:
            values = np.moveaxis(values, self.axis, -1)
        return np.broadcast_to(values, self.shape)

    def _leave_out(self, mask, ignore_label, invalid_labels, skip_missing):
        if mask is not None:
            self.counts &= np.broadcast_to(np.asarray(mask) != 0, self.rows)
        if not self.is_sparse:
            if skip_missing and mask is None:
                soft = self._by_row("labels", self.arguments["labels"])
                self.counts &= (soft != 0).any(axis=-1)
            return
        if ignore_label is not None:
            self.counts &= ~np.isin(self.labels, ignore_label)
        invalid = (self.labels < 0) | (self.labels >= self.shape[-1])
        if invalid_labels == "ignore":
            self.counts &= ~invalid
        elif invalid_labels == "nan":
            self.is_nan = self.counts & invalid
        elif (self.counts & invalid).any():
            raise ValueError("an invalid label, without a policy for it")

    def _row(self, index):
        """The function of one row, and the (argument, place) of each of its variables."""
        classes = [j for j in range(self.shape[-1]) if self.open[index][j]]
        variables = []
        for name in _ARGUMENTS:
            if name in self._places:
                entries = [0] if name == "weights" else classes
                variables += [(name, int(self._places[name][index][j])) for j in entries]

        def function(values):
            parts = {name: [] for name in _ARGUMENTS}
            for (name, _), value in zip(variables, values):
                parts[name].append(value)
            if self.is_sparse:
                parts["labels"] = [mpmath.mpf(int(j == self.labels[index])) for j in classes]
            numbers = dict(self.numbers)
            if parts["logit_adjustment"]:
                numbers["logit_adjustment"] = parts["logit_adjustment"]
            return self.formula(
                parts["logits"],
                parts["labels"],
                parts["class_weights"] or [mpmath.mpf(1)] * len(classes),
                parts["weights"][0] if parts["weights"] else mpmath.mpf(1),
                **numbers,
            )

        return function, variables

    def _label_is_left_out(self, index):
        closed = ~self.open[index]
        if self.is_sparse:
            return bool(closed[self.labels[index]])
        return bool(self._by_row("labels", self.arguments["labels"])[index][closed].any())

    def _values(self, arrays, variables):
        return [mpmath.mpf(float(arrays[name].flat[place])) for name, place in variables]

    def loss(self):
        """The losses, a float64 array of the shape of `logits` without `axis`."""
        result = np.zeros(self.rows)
        with mpmath.workdps(DIGITS):
            for index in np.ndindex(*self.rows):
                if not self.counts[index]:
                    continue
                if self.is_nan[index]:
                    result[index] = np.nan
                elif self._label_is_left_out(index):
                    result[index] = np.inf
                else:
                    function, variables = self._row(index)
                    result[index] = float(function(self._values(self.arguments, variables)))
        return result

    def derivatives(self, vectors, cotangents):
        """Of sum(cotangents * loss), in all arguments together: the gradient, and the Hessian
        times `vectors`; each a dict from the arguments' names to float64 arrays of their shapes.

        A class that is left out, and a row that does not count, have derivatives of 0 in all.
        """
        gradients = {name: np.zeros(value.shape) for name, value in self.arguments.items()}
        products = {name: np.zeros(value.shape) for name, value in self.arguments.items()}
        with mpmath.workdps(DIGITS):
            for index in np.ndindex(*self.rows):
                if not self.counts[index]:
                    continue
                function, variables = self._row(index)
                point = self._values(self.arguments, variables)
                gradient, product = derivatives(function, point, self._values(vectors, variables))
                for (name, place), first, second in zip(variables, gradient, product):
                    gradients[name].flat[place] += float(cotangents[index] * first)
                    products[name].flat[place] += float(cotangents[index] * second)
        return gradients, products
