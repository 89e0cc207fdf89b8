"""One loss in a graph of its own: built once, differentiated as asked, run as often as needed."""

import numpy as np
import tensorflow.compat.v1 as tf

SPARSE = "sparse_softmax_cross_entropy_with_logits"
DENSE_V1 = "softmax_cross_entropy_with_logits"
DENSE_V2 = "softmax_cross_entropy_with_logits_v2"
NAMES = (SPARSE, DENSE_V1, DENSE_V2)


def labels_shape(name, logits_shape):
    """The static shape of labels to go with that of the logits (None: unknown rank)."""
    if logits_shape is None or name != SPARSE:
        return logits_shape
    return logits_shape[:-1]


class LossGraph:
    """The loss `name` of `module` (tf.nn or tf1xent.nn) on placeholders for logits and labels.

    A derivative is named by the arguments it is taken with respect to, in turn, each but the
    last contracted with a vector of its argument's shape: ("logits",) is the gradient,
    ("logits", "logits") the Hessian-vector product, ("labels", "logits") the gradient with
    respect to the logits of <d loss / d labels, vector>.
    """

    def __init__(self, module, name, logits_dtype, labels_dtype=None, logits_shape=None):
        self.graph = tf.Graph()
        self._session = None
        self._vectors = []
        self._derivatives = {}
        if labels_dtype is None:
            labels_dtype = "int64" if name == SPARSE else logits_dtype
        with self.graph.as_default():
            self.logits = tf.placeholder(logits_dtype, logits_shape, name="logits")
            shape = labels_shape(name, logits_shape)
            self.labels = tf.placeholder(labels_dtype, shape, name="labels")
            self.loss = getattr(module, name)(labels=self.labels, logits=self.logits)
        self._derivatives[()] = self.loss

    def derivative(self, *arguments):
        """The tensor of a derivative; raises ValueError where TensorFlow finds none."""
        if arguments not in self._derivatives:
            inner = self.derivative(*arguments[:-1])
            argument = getattr(self, arguments[-1])
            with self.graph.as_default():
                if len(arguments) > 1:
                    inner = inner * self._vector(len(arguments) - 2, arguments[-2])
                (gradient,) = tf.gradients(inner, [argument])
            if gradient is None:
                raise ValueError(f"no derivative with respect to {arguments}")
            self._derivatives[arguments] = gradient
        return self._derivatives[arguments]

    def _vector(self, position, argument):
        while len(self._vectors) <= position:
            # Logits and dense labels are of one shape and dtype, so one placeholder does for both.
            self._vectors.append(tf.placeholder(self.logits.dtype, self.logits.shape))
        return self._vectors[position]

    def run(self, arguments, logits, labels, *vectors):
        """The value of derivative(*arguments); () is the loss."""
        return self.run_all([self.derivative(*arguments)], logits, labels, *vectors)[0]

    def run_all(self, tensors, logits, labels, *vectors):
        """The values of tensors of this graph for the arrays fed."""
        feed = {self.logits: self._cast(self.logits, logits)}
        feed[self.labels] = self._cast(self.labels, labels)
        for placeholder, vector in zip(self._vectors, vectors):
            feed[placeholder] = self._cast(placeholder, vector)
        if self._session is None:
            self._session = tf.Session(graph=self.graph)
        return self._session.run(tensors, feed)

    @staticmethod
    def _cast(placeholder, value):
        return np.asarray(value).astype(placeholder.dtype.as_numpy_dtype)
