"""The table of what `tf1xent doctor` measures: questions, exact answers, and who computes them.

Each is asked twice: of TensorFlow as it is, and of the same code under `tf1xent.patch()`, or of
what `tf1xent migrate` makes of it. All run as programs for TensorFlow 1 do, in a session.
"""

from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from tf1xent import _probes
from tf1xent._probes import Finding, Probe
from tf1xent._tf import tf
from tf1xent._typing import Tensor

_Loss = Callable[..., Any]
_Build = Callable[[_Loss, _Loss], Tensor]


class Check(NamedTuple):
    """A row of the table.

    Attributes:
      key: its name in JSON.
      probe: the question, what TensorFlow computes, and the exact answer.
      remedy: the advice where TensorFlow's answer is wrong; a key of `findings.ADVICE`.
      options: of `tf1xent.patch()`, for tf1xent's answer.
      rewritten: what takes the place of the probe's tensor there, or None: the same code.
      is_ours: whether tf1xent answers at all; else it is a limit of TensorFlow that stays.
    """

    key: str
    probe: Probe
    remedy: str = "patch"
    options: Mapping[str, Any] = {}
    rewritten: Optional[_Build] = None
    is_ours: bool = True


def stock_answer(check: Check) -> Finding:
    """Returns TensorFlow's answer, in a process that is not patched."""
    return _probes.stock_finding(check.probe)


def own_answer(check: Check) -> Finding:
    """Returns tf1xent's answer, in a process that is patched with the check's options."""
    probe = check.probe
    if check.rewritten is not None:
        probe = probe._replace(build=check.rewritten)
    return _probes.finding(
        probe,
        tf.nn.sparse_softmax_cross_entropy_with_logits,
        tf.nn.softmax_cross_entropy_with_logits_v2,
    )


def by_options() -> List[Tuple[Mapping[str, Any], List[Check]]]:
    """Returns the checks that tf1xent answers, by the options of `tf1xent.patch()`."""
    groups: List[Tuple[Mapping[str, Any], List[Check]]] = []
    for check in CHECKS:
        if check.is_ours:
            group = next((group for options, group in groups if options == check.options), None)
            if group is None:
                group = []
                groups.append((check.options, group))
            group.append(check)
    return groups


# How wrong rows are answered ---------------------------------------------------------------------


def _confident(margin: float, is_gradient: bool) -> Probe:
    def build(sparse: _Loss, _: _Loss) -> Tensor:
        logits = tf.constant([[margin, 0.0]])
        loss = sparse(labels=tf.constant([0]), logits=logits)
        return tf.gradients(loss, logits)[0] if is_gradient else loss

    what = "gradient" if is_gradient else "loss"
    p = 1 / (1 + np.exp(margin))
    exact = np.array([-p, p]) if is_gradient else np.log1p(np.exp([-margin]))
    return Probe(f"{what} of a confident row (margin {margin:.0f})", build, exact)


def _masked_gradient(_: _Loss, dense: _Loss) -> Tensor:
    logits = tf.constant([[0.0, 0.0, -np.inf]])
    loss = dense(labels=tf.constant([[1.0, 0.0, 0.0]]), logits=logits)
    return tf.gradients(tf.reduce_sum(loss), logits)[0]


def _shared_labels(_: _Loss, dense: _Loss) -> Tensor:
    logits = tf.constant([[0.0, 0.0], [0.0, 0.0]])
    return tf.gradients(dense(labels=tf.constant([[1.0, 0.0]]), logits=logits), logits)[0]


def _float64_slope(_: _Loss, __: _Loss) -> Tensor:
    step = 1e-9  # lost in float32
    first, second = (
        tf.losses.sparse_softmax_cross_entropy(
            labels=tf.constant([0]), logits=tf.constant([[x, 0.0]], tf.float64)
        )
        for x in (0.0, step)
    )
    return tf.cast(second - first, tf.float64) / step


# Second derivatives of what is behind the loss ---------------------------------------------------


def _through_a_loop(_: _Loss, __: _Loss) -> Tensor:
    x = tf.constant(2.0)
    _, cube = tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * x), [0, 1.0])
    return tf.gradients(tf.gradients(cube, x)[0], x)[0]


def _through_resizing(_: _Loss, __: _Loss) -> Tensor:
    pixel = tf.constant([[[[3.0]]]])
    loss = tf.reduce_sum(tf.image.resize_bilinear(pixel, [2, 2]) ** 3)
    return tf.hessians(loss, pixel)[0]


def _through_moments(_: _Loss, __: _Loss) -> Tensor:
    x = tf.constant([1.0, 2.0, 4.0])
    return tf.hessians(tf.nn.moments(x, [0])[1], x)[0]


# Losses that are written by hand ------------------------------------------------------------------


def _by_hand(gap: float, clipped: bool) -> _Build:
    def build(_: _Loss, __: _Loss) -> Tensor:
        labels, logits = _wrong_row(gap)
        p = tf.nn.softmax(logits)
        if clipped:
            p = tf.clip_by_value(p, 1e-10, 1.0)
        return tf.gradients(-tf.reduce_sum(labels * tf.log(p)), logits)[0]

    return build


def _migrated(gap: float) -> _Build:
    def build(_: _Loss, dense: _Loss) -> Tensor:
        labels, logits = _wrong_row(gap)
        return tf.gradients(tf.reduce_sum(dense(labels=labels, logits=logits)), logits)[0]

    return build


def _wrong_row(gap: float) -> Any:
    """A row whose label's logit is far below the other."""
    return tf.constant([[1.0, 0.0]]), tf.constant([[0.0, gap]])


def _relu_of_nan(_: _Loss, __: _Loss) -> Tensor:
    # Of constants TensorFlow would compute something else than of variables.
    arrays = np.full([4, 4], np.nan), np.eye(4), np.zeros(4)
    x, weights, bias = (tf.placeholder_with_default(np.float32(a), a.shape) for a in arrays)
    return tf.nn.relu(tf.matmul(x, weights) + bias)[0, 0]


_KEYS = ("sparse-hessian", "mixed-derivative", "unnormalised-labels", "masked-class", "margin-50")
_LOSSES = [Check(key, probe) for key, probe in zip(_KEYS, _probes.PROBES)]

CHECKS = (
    *_LOSSES[:4],
    Check(
        "masked-gradient",
        Probe("gradient with a masked class", _masked_gradient, np.array([-0.5, 0.5, 0.0])),
    ),
    Check("margin-20", _confident(20.0, is_gradient=False)),
    Check("margin-20-gradient", _confident(20.0, is_gradient=True)),
    _LOSSES[4],
    Check("margin-50-gradient", _confident(50.0, is_gradient=True)),
    Check(
        "shared-labels",
        Probe(
            "gradient with one row of labels for all",
            _shared_labels,
            np.array([[-0.5, 0.5], [-0.5, 0.5]]),
        ),
    ),
    Check(
        "float64-losses",
        Probe("tf.losses of float64 logits", _float64_slope, np.array([-0.5])),
        remedy="losses",
        options={"losses": True},
    ),
    Check(
        "loop-hessian",
        Probe("second derivative through a v1 loop", _through_a_loop, np.array([12.0])),
        remedy="loops",
        options={"control_flow_v2": True},
    ),
    Check(
        "resize-hessian",
        Probe("second derivative through resizing", _through_resizing, np.array([72.0])),
    ),
    Check(
        "log-softmax-by-hand",
        Probe("by hand: log(softmax(x)), gradient", _by_hand(110.0, False), np.array([-1.0, 1.0])),
        remedy="migrate",
        rewritten=_migrated(110.0),
    ),
    Check(
        "clipped-by-hand",
        Probe("by hand: a clipped log, gradient", _by_hand(30.0, True), np.array([-1.0, 1.0])),
        remedy="migrate",
        rewritten=_migrated(30.0),
    ),
    Check(
        "moments-hessian",
        Probe(
            "second derivative of tf.nn.moments",
            _through_moments,
            2 / 3 * (np.eye(3) - np.ones([3, 3]) / 3),
        ),
        remedy="moments",
        is_ours=False,
    ),
    Check(
        "relu-of-nan",
        Probe("relu(x @ w + b) shows a NaN", _relu_of_nan, np.array([np.nan])),
        remedy="nan",
        is_ours=False,
    ),
)
