"""What TensorFlow's own functions get wrong, found by running them on a few numbers."""

import functools
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Tensor

# A loss of `labels` and `logits`.
_Loss = Callable[..., Any]

RIGHT = "right"
_NO_GRADIENTS: Mapping[str, str] = {}
_TOLERANCE = 1e-5  # of the largest exact number; the probes are float32


class Probe(NamedTuple):
    """A question, the tensor that answers it, built from a sparse and a dense loss, and the answer.

    Attributes:
      question: in words.
      build: returns the tensor.
      exact: its exact value; NaN where that is right.
    """

    question: str
    build: Callable[[_Loss, _Loss], Tensor]
    exact: np.ndarray


class Finding(NamedTuple):
    """What a pair of losses answers to a probe.

    Attributes:
      question: of the probe.
      verdict: "right", "wrong", or "raises " and the type of the error.
      computed: the value, or None if there is an error.
      exact: of the probe.
      message: of the error, its first line.
    """

    question: str
    verdict: str
    computed: Optional[np.ndarray]
    exact: np.ndarray
    message: str = ""


def _sparse_second_derivative(sparse: _Loss, _: _Loss) -> Tensor:
    logits = tf.constant([[0.0, 0.0]])
    return tf.hessians(sparse(labels=tf.constant([0]), logits=logits), logits)[0]


def _dense_mixed_derivative(_: _Loss, dense: _Loss) -> Tensor:
    logits, labels = tf.constant([[0.0, 0.0]]), tf.constant([[1.0, 0.0]])
    (gradient,) = tf.gradients(dense(labels=labels, logits=logits), logits)
    (mixed,) = tf.gradients(gradient[:, 0], labels)
    return tf.zeros_like(labels) if mixed is None else mixed


def _unnormalised_gradient(_: _Loss, dense: _Loss) -> Tensor:
    logits, labels = tf.constant([[0.0, 0.0]]), tf.constant([[2.0, 0.0]])
    return tf.gradients(dense(labels=labels, logits=logits), logits)[0]


def _masked_class_loss(_: _Loss, dense: _Loss) -> Tensor:
    return dense(labels=tf.constant([[1.0, 0.0]]), logits=tf.constant([[0.0, -np.inf]]))


def _confident_loss(sparse: _Loss, _: _Loss) -> Tensor:
    return sparse(labels=tf.constant([0]), logits=tf.constant([[50.0, 0.0]]))


_SECOND_DERIVATIVE = Probe(
    "second derivative of the sparse op",
    _sparse_second_derivative,
    np.array([[0.25, -0.25], [-0.25, 0.25]]),
)
PROBES = (
    _SECOND_DERIVATIVE,
    Probe(
        "mixed derivative of the dense op",
        _dense_mixed_derivative,
        np.array([-0.5, 0.5]),
    ),
    Probe(
        "gradient where labels do not sum to 1",
        _unnormalised_gradient,
        np.array([-1.0, 1.0]),
    ),
    Probe(
        "loss with a masked class (a logit of -inf)",
        _masked_class_loss,
        np.array([0.0]),
    ),
    Probe(
        "loss of a confident row (margin 50)",
        _confident_loss,
        np.exp([-50.0]),
    ),
)


def finding(
    probe: Probe, sparse: _Loss, dense: _Loss, gradients: Mapping[str, str] = _NO_GRADIENTS
) -> Finding:
    """Returns what two losses answer to a probe, in a session on the CPU.

    Args:
      probe: the question.
      sparse: the sparse loss.
      dense: the dense loss.
      gradients: names of gradients by op types, in the place of those in force.
    """
    with tf.Graph().as_default() as graph, graph.gradient_override_map(dict(gradients)):
        try:
            tensor = probe.build(sparse, dense)
            with tf.Session(graph=graph, config=tf.ConfigProto(device_count={"GPU": 0})) as session:
                computed = np.reshape(session.run(tensor), probe.exact.shape)
        except Exception as error:  # such as that of a debugger that checks every op for NaN
            verdict, message = f"raises {type(error).__name__}", _tf.error_line(error)
            return Finding(probe.question, verdict, None, probe.exact, message)
    verdict = RIGHT if _is_right(np.asarray(computed, np.float64), probe.exact) else "wrong"
    return Finding(probe.question, verdict, computed, probe.exact)


def _is_right(computed: np.ndarray, exact: np.ndarray) -> bool:
    numbers = ~np.isnan(exact)
    if not np.array_equal(~np.isnan(computed), numbers):
        return False
    if not numbers.any():
        return True
    difference = np.abs(computed - exact)[numbers].max()
    return bool(difference <= _TOLERANCE * np.abs(exact[numbers]).max())


def _stock_gradients() -> Dict[str, str]:
    # TensorFlow's own gradients under names of ours: an override in force must not be probed.
    names = {op_type: "Tf1xentStock" + op_type for op_type in _tf.STOCK_GRADIENTS}
    for op_type, function in _tf.STOCK_GRADIENTS.items():
        _tf.register_gradient(names[op_type], function)
    return names


def stock_finding(probe: Probe) -> Finding:
    """Returns what TensorFlow's own functions answer to a probe, patched or not."""
    return finding(
        probe,
        _tf.stock_public_function("sparse_softmax_cross_entropy_with_logits"),
        _tf.stock_public_function("softmax_cross_entropy_with_logits_v2"),
        _stock_gradients(),
    )


@functools.lru_cache(maxsize=None)
def sparse_op_has_second_derivative() -> bool:
    """Whether TensorFlow itself differentiates its sparse op twice, and correctly."""
    return stock_finding(_SECOND_DERIVATIVE).verdict == RIGHT


@functools.lru_cache(maxsize=None)
def stock_findings() -> Tuple[Finding, ...]:
    """What this TensorFlow's own functions answer; tf1xent's are right in all of it."""
    return tuple(stock_finding(probe) for probe in PROBES)


def stock_deficiencies() -> Tuple[Tuple[str, str], ...]:
    """The questions, and the verdicts about this TensorFlow's own functions."""
    return tuple((found.question, found.verdict) for found in stock_findings())
