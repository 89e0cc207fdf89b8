"""Every option of the per-example losses on one batch, alone and combined, as graphs.

An option brings its own trouble with it: `ignore_label` a row with that label, `invalid_labels`
rows with labels that name no class, `missing` a row of soft labels that are all zero, `axis` a
third dimension. Arrays are placeholders with a default, so that nothing is folded into constants,
and all cases of a graph are computed by one run.
"""

import functools
import itertools

import numpy as np
import tensorflow.compat.v1 as tf

from tests.oracle.option_reference import OptionReference, loss_of_probabilities
from tf1xent import nn

NUM_ROWS, NUM_CLASSES = 6, 4
LEFT_OUT = 1  # the class that class_mask leaves out
MASKED, IGNORED, MISSING = 2, 1, 3  # rows
INVALID = {4: 7, 5: -3}
IGNORE_LABEL = -1

_GENERATOR = np.random.RandomState(20)
LOGITS = 2.0 * _GENERATOR.normal(size=(NUM_ROWS, NUM_CLASSES))
LOGITS[0, 3] += 12.0  # confident and wrong
LOGITS[5, 0] += 12.0  # confident and, without invalid labels, right
LABELS = np.array([2, 0, 3, 1, 2, 0])
SOFT_LABELS = _GENERATOR.gamma(0.5, size=(NUM_ROWS, NUM_CLASSES))  # rows do not sum to 1
SOFT_LABELS[5] = [1.0, 0.0, 0.0, 0.0]
PROBABILITIES = 0.0625 + 0.75 * _GENERATOR.dirichlet([1.0] * NUM_CLASSES, size=NUM_ROWS)
PROBABILITIES[1] = [0.03125, 0.25, 0.5, 0.25]  # the first below this epsilon, above the default
PROBABILITIES[4] = [0.5, 1.5, -0.25, 0.125]  # no probabilities at all, and clipped
WEIGHTS = _GENERATOR.uniform(0.25, 2.0, size=NUM_ROWS)
CLASS_WEIGHTS = np.array([0.5, 2.0, 0.75, 1.25])
LOGIT_ADJUSTMENT = np.array([-0.5, -2.25, 0.0, -1.125])

# All exact in float32.
NUMBERS = {
    "label_smoothing": 0.125,
    "z_loss": 0.0625,
    "temperature": 1.5,
    "focal_gamma": 1.5,
    "softcap": 6.0,
}
_BOTH = ("mask", "weights", "class_weights", "class_mask", "axis") + tuple(NUMBERS)
OPTIONS = {
    "sparse": _BOTH + ("logit_adjustment", "ignore_label", "invalid_labels"),
    "soft": _BOTH + ("logit_adjustment", "missing"),
    "probabilities": (
        ("mask", "weights", "class_weights", "axis", "label_smoothing", "focal_gamma", "epsilon")
    ),
}
FUNCTIONS = {
    "sparse": (
        nn.masked_sparse_softmax_cross_entropy_with_logits,
        nn.weighted_sparse_softmax_cross_entropy_with_logits,
    ),
    "soft": (
        nn.masked_softmax_cross_entropy_with_logits,
        nn.weighted_softmax_cross_entropy_with_logits,
    ),
    "probabilities": (nn.softmax_cross_entropy_with_probabilities,) * 2,
}


def placeholder(value, static="known"):
    """A placeholder with a default: its static shape "known", of "unknown sizes", or "unknown"."""
    value = np.asarray(value)
    shapes = {"known": value.shape, "unknown sizes": [None] * value.ndim, "unknown": None}
    return tf.placeholder_with_default(value, shapes[static])


class Case:
    """One combination of options: its inputs, its reference, and its tensors in a graph."""

    def __init__(self, kind, names, dtype="float64", variant=0):
        self.kind, self.names, self.dtype = kind, names, dtype
        self.name = kind + ": " + (" + ".join(names) or "no option")
        self.rows = (2, 3) if "axis" in names else (NUM_ROWS,)
        self.options = {name: NUMBERS[name] for name in names if name in NUMBERS}
        self.removed = np.zeros(NUM_ROWS, bool)
        self.arrays = {"logits": self._per_class(PROBABILITIES if self.is_plain else LOGITS)}
        self._add_labels()
        self._add_arrays()
        self.removed = self.removed.reshape(self.rows)
        self.function = self._function(variant)
        generator = np.random.RandomState(len(names))
        self.cotangents = generator.uniform(0.5, 1.5, size=self.rows)
        self.vectors = {
            name: generator.normal(size=value.shape)
            for name, value in self.arrays.items()
            if value.dtype.kind == "f"
        }
        self._keep_zeros_of_labels()

    @property
    def is_plain(self):
        """Whether this is the loss of probabilities, which has no logits."""
        return self.kind == "probabilities"

    def _per_class(self, values):
        values = values.reshape(self.rows + (NUM_CLASSES,)).astype(self.dtype)
        return np.moveaxis(values, -1, 1) if "axis" in self.names else values

    def _add_labels(self):
        names = self.names
        if self.kind != "sparse":
            soft = SOFT_LABELS.copy()
            soft[MISSING] = 0.0
            if "class_mask" in names:
                soft[:, LEFT_OUT] = 0.0
            if "missing" in names and "mask" not in names:
                self.removed[MISSING] = True
            self.arrays["labels"] = self._per_class(soft)
            return
        labels = LABELS.copy()
        if "class_mask" in names:
            labels[labels == LEFT_OUT] = 0
        if "ignore_label" in names:
            labels[IGNORED] = self.options["ignore_label"] = IGNORE_LABEL
            self.removed[IGNORED] = True
        if "invalid_labels" in names:
            self.options["invalid_labels"] = "ignore"
            labels[list(INVALID)] = list(INVALID.values())
            self.removed[list(INVALID)] = True
        self.arrays["labels"] = labels.reshape(self.rows)

    def _add_arrays(self):
        if "mask" in self.names:
            mask = np.arange(NUM_ROWS) != MASKED
            self.options["mask"] = mask.reshape(self.rows)
            self.removed |= ~mask
        if "class_mask" in self.names:
            mask = np.arange(NUM_CLASSES) != LEFT_OUT
            self.options["class_mask"] = mask.reshape(1, -1, 1) if "axis" in self.names else mask
        if "weights" in self.names:
            self.arrays["weights"] = WEIGHTS.reshape(self.rows).astype(self.dtype)
        if "class_weights" in self.names:
            self.arrays["class_weights"] = CLASS_WEIGHTS.astype(self.dtype)
        if "logit_adjustment" in self.names:
            self.arrays["logit_adjustment"] = LOGIT_ADJUSTMENT.astype(self.dtype)
        if "axis" in self.names:
            self.options["axis"] = 1
        if "epsilon" in self.names:
            self.options["epsilon"] = 0.046875

    def _function(self, variant):
        if self.kind == "soft" and "mask" not in self.names:
            # Only one of the two takes a row of labels that are all zero for a missing one.
            return FUNCTIONS["soft"][0 if "missing" in self.names else 1]
        return FUNCTIONS[self.kind][variant % 2]

    def _keep_zeros_of_labels(self):
        """A step may not turn a missing row into another, nor give a class left out a label."""
        if "labels" in self.vectors:
            by_class = np.moveaxis(self.vectors["labels"], 1 if "axis" in self.names else -1, -1)
            if "missing" in self.names:
                by_class[self.removed] = 0.0
            if "class_mask" in self.names:
                by_class[..., LEFT_OUT] = 0.0

    def reference(self):
        """The oracle for this case."""
        arguments = dict(self.arrays, **self.options)
        if self.is_plain:
            arguments["formula"] = loss_of_probabilities
        skip_missing = self.kind == "soft" and "missing" in self.names
        return OptionReference(skip_missing=skip_missing, **arguments)

    def build(self, derivatives):
        """Put the loss into the default graph, and its derivatives up to the order asked for."""
        self.inputs = {name: placeholder(value) for name, value in self.arrays.items()}
        self.loss = self.call(self.inputs)
        self.gradient, self.product = {}, {}
        if derivatives >= 1:
            self.gradient = self._differentiated(self.loss * self.cotangents)
        if derivatives >= 2:
            along = [
                tf.reduce_sum(self.gradient[name] * vector) for name, vector in self.vectors.items()
            ]
            self.product = self._differentiated(tf.add_n(along))

    def call(self, inputs):
        """The loss of tensors."""
        others = {name: inputs[name] for name in inputs if name not in ("labels", "logits")}
        return self.function(inputs["labels"], inputs["logits"], **dict(self.options, **others))

    def _differentiated(self, tensor):
        names = list(self.vectors)
        found = tf.gradients(tensor, [self.inputs[name] for name in names])
        return {
            # No path from an argument: the derivative is 0 everywhere.
            name: tf.zeros_like(self.inputs[name])
            if gradient is None
            else tf.convert_to_tensor(gradient)  # that of a gather is IndexedSlices
            for name, gradient in zip(names, found)
        }

    @property
    def tensors(self):
        """Loss, gradients by argument, Hessian-vector product by argument."""
        return self.loss, self.gradient, self.product

    def by_row(self, name, values):
        """An argument's values as [rows..., entries], or None where rows share them."""
        if name in ("class_weights", "logit_adjustment"):
            return None
        if name == "weights":
            return values[..., np.newaxis]
        return np.moveaxis(values, 1 if "axis" in self.names else -1, -1)


def unoptimised():
    """Graphs of thousands of nodes that are run once or twice: optimising them does not pay."""
    config = tf.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


class Comparison:
    """Calls of all kinds in one graph, each with what the oracle says of loss and gradient."""

    def __init__(self, gradients=True):
        self.graph, self.gradients = tf.Graph(), gradients
        self.calls = []

    def add(self, name, function, labels, logits, static="known", oracle=None, **options):
        """`function` of arrays and options; `oracle`: options that its reference gets besides."""
        arrays = {"labels": labels, "logits": logits}
        names = ("mask", "weights", "class_weights", "logit_adjustment", "class_mask")
        arrays.update({key: options[key] for key in names if options.get(key) is not None})
        with self.graph.as_default():
            inputs = {key: placeholder(value, static) for key, value in arrays.items()}
            if "class_mask" in inputs:  # its rank, 1 or that of the logits, must be known
                inputs["class_mask"] = placeholder(arrays["class_mask"])
            loss = function(**dict(options, **inputs))
            gradient = tf.gradients(loss, inputs["logits"])[0] if self.gradients else ()
        exact = {
            key: np.asarray(value, np.float64)
            for key, value in arrays.items()
            if np.asarray(value).dtype.kind not in "iub"
        }
        wanted = OptionReference(**dict(dict(dict(arrays, **options), **exact), **(oracle or {})))
        self.calls.append((name, wanted, (loss, gradient)))

    def add_probabilities(self, name, labels, probabilities, static="known", **options):
        """The same for probabilities, which the function calls by that name."""

        def function(logits, **others):
            return nn.softmax_cross_entropy_with_probabilities(probabilities=logits, **others)

        oracle = {"formula": loss_of_probabilities}
        self.add(name, function, labels, probabilities, static, oracle, **options)

    def check(self, **tolerances):
        """Run the graph and compare; rows whose loss is not finite have no gradient to compare."""
        with tf.Session(graph=self.graph, config=unoptimised()) as session:
            results = session.run([tensors for _, _, tensors in self.calls])
        faults = Faults(**tolerances)
        for (name, reference, _), (loss, gradient) in zip(self.calls, results):
            want = reference.loss()
            faults.compare(name + ", loss", loss, want)
            if self.gradients and np.isfinite(want).all():
                zeros = {key: np.zeros(x.shape) for key, x in reference.arguments.items()}
                want = reference.derivatives(zeros, np.ones(want.shape))[0]["logits"]
                faults.compare(name + ", gradient", gradient, want)
        faults.none()


class Faults:
    """Comparisons that go on after the first that fails, so that one run tells of all cases."""

    def __init__(self, **tolerances):
        self.tolerances, self.found, self.count = tolerances, [], 0

    def compare(self, name, got, want, **tolerances):
        """Note `name` if `got` and `want` differ in shape or beyond the tolerances."""
        self.count += 1
        got, want = np.asarray(got), np.asarray(want)
        if got.shape != want.shape:
            self.found.append(f"{name}: shape {got.shape}, wanted {want.shape}")
            return
        try:
            chosen = dict(self.tolerances, **tolerances)
            np.testing.assert_allclose(got.astype(np.float64), want, **chosen)
        except AssertionError:
            with np.printoptions(threshold=64, precision=6):
                self.found.append(f"{name}: got\n{got}\nwanted\n{want}")

    def none(self):
        """Fail unless there were comparisons, and all of them held."""
        assert self.count
        assert not self.found, f"{len(self.found)} of {self.count}:\n" + "\n".join(self.found)


class CaseGraph:
    """Many cases in one graph."""

    def __init__(self, cases, derivatives=0):
        self.cases = cases
        self.graph = tf.Graph()
        with self.graph.as_default():
            for case in cases:
                case.build(derivatives)
        self.session = tf.Session(graph=self.graph, config=unoptimised())

    def run(self, arrays=None):
        """(loss, gradients, product) of each case; `arrays`: what is fed, {name: array} by case."""
        feed = {}
        for case, fed in zip(self.cases, arrays or []):
            feed.update({case.inputs[name]: value for name, value in fed.items()})
        return self.session.run([case.tensors for case in self.cases], feed)


def combinations(kind, size):
    """All combinations of as many options of a kind, as tuples of names."""
    return list(itertools.combinations(OPTIONS[kind], size))


def _patterns(options, names):
    """Which of any two options are there."""
    pairs = itertools.combinations(options, 2)
    return {(a, b, a in names, b in names) for a, b in pairs}


def meetings(kind):
    """A few combinations, in which any two options are there both, either without the other, and
    neither."""
    options = OPTIONS[kind]
    subsets = [names for size in range(len(options) + 1) for names in combinations(kind, size)]
    missing = set().union(*(_patterns(options, names) for names in subsets))
    random, chosen = np.random.RandomState(0), []
    while missing:
        some = [subsets[i] for i in random.randint(len(subsets), size=50)]
        chosen.append(max(some, key=lambda names: len(missing & _patterns(options, names))))
        missing -= _patterns(options, chosen[-1])
    return chosen


@functools.lru_cache(maxsize=None)
def differentiated(kind):
    """Every option alone, with every other and with all others, in one graph of second derivatives.

    Building it takes time, so that options meet in larger combinations than pairs.
    """
    options = OPTIONS[kind]
    chosen = [()] + combinations(kind, 1) + meetings(kind)
    chosen += [
        (option, "label_smoothing", "class_weights")
        for option in ("mask", "ignore_label", "missing")
        if option in options
    ]
    chosen.append(options)
    return CaseGraph([Case(kind, names, variant=i) for i, names in enumerate(chosen)], 2)


@functools.lru_cache(maxsize=None)
def differentiated_results(kind):
    """What the graph of `differentiated` computes of its own inputs."""
    return differentiated(kind).run()
