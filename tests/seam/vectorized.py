"""Cases for TensorFlow's vectorizer, pfor, and what is true of them.

Nothing falls back to a loop here, if that can be asked for: every op has to be converted.
"""

import functools
import inspect

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.ops.parallel_for import control_flow_ops

import tf1xent
from tests.oracle.reference import Reference
from tests.support.tolerances import assert_within_contract, gradient_scale
from tf1xent import nn

ITERATIONS, ROWS = 2, 2
SPARSE = nn.sparse_softmax_cross_entropy_with_logits
DENSE = nn.softmax_cross_entropy_with_logits_v2


def pfor(function, count):
    """`function` of the numbers below `count`, all at once."""
    options = {}
    if "fallback_to_while_loop" in inspect.signature(control_flow_ops.pfor).parameters:
        options["fallback_to_while_loop"] = False
    return control_flow_ops.pfor(function, count, **options)


class Data:
    """Arrays of all iterations, [ITERATIONS, ROWS, ...]; and what is true of their losses."""

    def __init__(self, num_classes, iterations=ITERATIONS, rows=ROWS):
        random = np.random.RandomState(num_classes)
        shape = (iterations, rows, num_classes)
        self.logits = (3 * random.normal(size=shape)).astype(np.float32)
        self.classes = random.randint(num_classes, size=shape[:2])
        if num_classes < 1000:
            self.logits[0, 0, self.classes[0, 0]] += 25  # confident and right
        labels = random.gamma(0.5, size=shape)
        labels /= labels.sum(axis=-1, keepdims=True)
        self.distributions = labels.astype(np.float32)
        self.vectors = random.normal(size=shape).astype(np.float32)

    def check(self, kind, quantity, got, stacked=("logits", "labels", "vectors")):
        """`got`, a quantity by iteration, against the oracle; what is not `stacked` is that of
        the first iteration in all."""
        names = {"logits": "logits", "vectors": "vectors"}
        names["labels"] = "classes" if kind == "sparse" else "distributions"
        arrays = {}
        for name, attribute in names.items():
            array = getattr(self, attribute)
            first = np.broadcast_to(array[:1], array.shape)
            chosen = array if name in stacked else first
            arrays[name] = chosen.reshape((-1,) + array.shape[2:])
        reference = Reference(arrays["logits"])
        want, scale = _expected(reference, kind, quantity, arrays["labels"], arrays["vectors"])
        got = np.asarray(got).reshape(want.shape)
        underflow = 4 if quantity == "product" else 0
        what = f"{quantity} of the {kind} loss, {' and '.join(stacked)} stacked"
        assert_within_contract(got, want, arrays["logits"], scale, underflow, what)

    def check_hessian(self, kind, **results):
        """Results, [..., num_classes, num_classes] of each row, against products with units."""
        num_classes = self.logits.shape[-1]
        logits = self.logits.reshape(-1, num_classes)
        labels = None if kind == "sparse" else self.distributions.reshape(-1, num_classes)
        reference = Reference(logits)
        for j in range(num_classes):
            unit = np.zeros_like(logits)
            unit[:, j] = 1
            want = reference.derivative_product([unit], labels)
            scale = reference.product_scale([unit], labels)
            for route, got in results.items():
                row = np.asarray(got).reshape(len(logits), num_classes, num_classes)[:, j]
                assert_within_contract(row, want, logits, scale, 4, f"{kind}, {route}, row {j}")


def _expected(reference, kind, quantity, labels, vectors):
    """(true values, what their error is measured by)."""
    sparse = kind == "sparse"
    if quantity == "loss":
        loss = reference.sparse_loss if sparse else reference.dense_loss
        return loss(labels), None
    if quantity == "gradient":
        if sparse:
            return reference.sparse_gradient(labels), None
        return reference.dense_gradient(labels), gradient_scale(reference, labels)
    if quantity == "label gradient":
        return reference.labels_gradient(), None
    labels = None if sparse else labels
    product = reference.derivative_product([vectors], labels)
    return product, reference.product_scale([vectors], labels)


@functools.lru_cache(maxsize=None)
def data(num_classes):
    return Data(num_classes)


def loss_of(kind, implementation):
    """A function of logits and labels; for the implementation "stock", TensorFlow's own."""
    function = SPARSE if kind == "sparse" else DENSE
    options = {"implementation": implementation}
    if implementation == "stock":
        function, options = tf1xent.get_original(function.__name__), {}
    return lambda logits, labels: function(labels=labels, logits=logits, **options)


def quantity_of(name, loss, logits, labels, vectors):
    """A quantity of Data.check, as a tensor of a graph."""
    values = loss(logits, labels)
    if name == "loss":
        return values
    if name == "label gradient":
        return tf.gradients(values, labels)[0]
    (gradient,) = tf.gradients(values, logits)
    if name == "gradient":
        return gradient
    return tf.gradients(gradient, logits, grad_ys=vectors)[0]


def arrays_of(kind, values, label_dtype):
    labels = values.classes.astype(label_dtype) if kind == "sparse" else values.distributions
    return {"logits": values.logits, "labels": labels, "vectors": values.vectors}
