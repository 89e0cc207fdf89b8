"""The options of a loss for one batch: checked once, and resolved into what the formula takes."""

from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from tf1xent import _tf
from tf1xent._loss import option_checks
from tf1xent._loss.batch import Batch
from tf1xent._math.labels import assert_labels_valid, checked_label_values
from tf1xent._tf import tf
from tf1xent._typing import Tensor, TensorLike


class Resolved(NamedTuple):
    """The options of one batch as numbers and tensors of its rows and classes.

    Numbers are of the computing dtype: NumPy numbers where they are constants, else scalar tensors.

    Attributes:
      labels: those of the batch where a row counts, checked; else class 0, or a distribution of
        zeros.
      invalid_value: one number, what the loss of an invalid label is made of; None: NaN.
      valid_rows: which rows count, [batch_size]; None: all.
      weights: of the rows, 0 where one does not count: [batch_size], or a scalar; None: 1.
      class_weights: [num_classes]; None: 1.
      class_included: which classes take part, all in a row that does not count: [batch_size,
        num_classes]; None: all.
      epsilon: the least probability.
      logit_adjustment: [num_classes]; None: 0.
      num_hardest: how many rows of the largest losses alone count, int32; None: all.
      label_smoothing, z_loss, temperature, focal_gamma, softcap: None: without it.
    """

    labels: Tensor
    invalid_value: Optional[Tensor]
    valid_rows: Optional[Tensor]
    weights: Optional[Tensor]
    class_weights: Optional[Tensor]
    class_included: Optional[Tensor]
    epsilon: Any
    label_smoothing: Any
    z_loss: Any
    temperature: Any
    focal_gamma: Any
    softcap: Any
    logit_adjustment: Optional[Tensor]
    num_hardest: Optional[Tensor]


_CheckLabels = Callable[[Tensor, Tensor], Tuple[Tensor, Optional[Tensor]]]


def of_integer_labels(
    batch: Batch,
    options: Mapping[str, Any],
    kernels: bool = False,
    check_labels: _CheckLabels = checked_label_values,
) -> Resolved:
    """The options for integer labels.

    Without a policy for invalid labels, `kernels` check labels themselves; else ``check_labels(
    matrix, labels)`` returns them after TensorFlow's checks, and the loss of an invalid one.
    """
    labels, valid = batch.labels, valid_rows(batch, options)
    if valid is not None:
        labels = _tf.where(valid, labels, tf.zeros_like(labels))
    policy, invalid_value = options["invalid_labels"], None
    if policy == "raise":
        are_valid = batch.names_a_class(labels)
        num_classes = tf.convert_to_tensor(batch.num_classes)
        labels = assert_labels_valid(batch.function, labels, are_valid, num_classes)
    elif policy is None and not kernels:
        labels, invalid_value = check_labels(batch.matrix, labels)
    return _resolved(batch, options, labels, valid, invalid_value)


def of_soft_labels(batch: Batch, options: Mapping[str, Any]) -> Resolved:
    """The options for labels that are distributions."""
    labels, valid = batch.labels, valid_rows(batch, options)
    if valid is not None:
        labels = _tf.select_rows(valid, labels, tf.zeros_like(labels))
    return _resolved(batch, options, labels, valid)


def _resolved(
    batch: Batch,
    options: Mapping[str, Any],
    labels: Tensor,
    valid: Optional[Tensor],
    invalid_value: Optional[Tensor] = None,
) -> Resolved:
    def scalar(name: str) -> Any:
        return option_checks.number(batch.function, name, options[name], batch.matrix.dtype)

    def by_class(name: str) -> Optional[Tensor]:
        value = options[name]
        return None if value is None else option_checks.class_vector(batch, name, value)

    return Resolved(
        labels=labels,
        invalid_value=invalid_value,
        valid_rows=valid,
        weights=_weights_of_valid_rows(batch, options["weights"], valid),
        softcap=scalar("softcap"),
        temperature=scalar("temperature"),
        logit_adjustment=by_class("logit_adjustment"),
        class_included=_class_included(batch, options["class_mask"], valid),
        focal_gamma=scalar("focal_gamma"),
        label_smoothing=scalar("label_smoothing"),
        class_weights=by_class("class_weights"),
        z_loss=scalar("z_loss"),
        epsilon=scalar("epsilon"),
        num_hardest=_num_hardest(batch, options["top_k_examples"], valid),
    )


def valid_rows(batch: Batch, options: Mapping[str, Any]) -> Optional[Tensor]:
    """Which rows count, by `mask`, `ignore_label`, `invalid_labels` and `skip_missing`.

    [batch_size], bool; None: all. A mask alone decides which soft labels count.
    """
    conditions: List[Tensor] = []
    if options["mask"] is not None:
        conditions.append(option_checks.mask_rows(batch, options["mask"]))
    if batch.soft_labels:
        if options["skip_missing"] and not conditions:
            conditions.append(tf.reduce_any(tf.not_equal(batch.labels, 0), axis=1))
    else:
        conditions += _valid_labels(batch, options)
    valid = None
    for condition in conditions:
        valid = condition if valid is None else tf.logical_and(valid, condition)
    return valid


def _valid_labels(batch: Batch, options: Mapping[str, Any]) -> List[Tensor]:
    labels, ignore_label = batch.labels, options["ignore_label"]
    conditions = []
    if ignore_label is not None:
        ignored = option_checks.ignored_labels(batch.function, ignore_label, labels.dtype)
        conditions.append(_differ_from(labels, ignored))
    if options["invalid_labels"] == "ignore":
        conditions.append(batch.names_a_class(labels))
    return conditions


def _differ_from(labels: Tensor, others: Tensor) -> Tensor:
    """Which labels are none of the `others`, a scalar or a vector: [batch_size]."""
    if others.dtype != labels.dtype:
        labels = tf.cast(labels, others.dtype)
    if others.shape.ndims == 0:
        return tf.not_equal(labels, others)
    return tf.reduce_all(tf.not_equal(labels[:, tf.newaxis], others[tf.newaxis]), axis=1)


def _weights_of_valid_rows(
    batch: Batch, weights: Optional[TensorLike], valid: Optional[Tensor]
) -> Optional[Tensor]:
    if weights is None:
        return None
    rows = option_checks.weight_rows(batch, weights, batch.matrix.dtype)
    if valid is None or rows is None or rows.shape.ndims == 0:
        return rows
    return _tf.where(valid, rows, tf.zeros_like(rows))


def _class_included(
    batch: Batch, class_mask: Optional[TensorLike], valid: Optional[Tensor]
) -> Optional[Tensor]:
    if class_mask is None:
        return None
    mask = option_checks.class_mask_rows(batch, class_mask)
    included = tf.logical_or(mask, tf.zeros_like(batch.matrix, tf.bool))
    if valid is not None:
        included = tf.logical_or(included, tf.logical_not(valid)[:, tf.newaxis])
    return _tf.set_static_shape(included, batch.matrix.shape)


def _num_hardest(
    batch: Batch, top_k: Optional[TensorLike], valid: Optional[Tensor]
) -> Optional[Tensor]:
    """How many rows `top_k`, a number or a share of those that count, stands for: int32."""
    if top_k is None:
        return None
    message = (
        f"{batch.function}: `top_k_examples` must be an integer of at least 1, or a share in "
        "(0, 1], got "
    )
    try:
        exact = np.float64(top_k) if isinstance(top_k, float) else top_k
        given = tf.convert_to_tensor(exact, name="top_k_examples")
    except (TypeError, ValueError) as error:
        raise TypeError(f"{message}{top_k!r}. Give a number or a scalar tensor.") from error
    is_share, known = given.dtype.is_floating, _tf.constant_value(given)
    if not (is_share or given.dtype.is_integer):
        raise TypeError(f"{message}{given.dtype.name}. Give a number or a scalar tensor.")
    if given.shape.ndims not in (None, 0):
        raise ValueError(f"{message}the shape {given.shape}. Give one number for the batch.")
    holds = _is_share(given) if is_share else given >= 1
    if known is not None and not (_is_share(known) if is_share else known >= 1):
        raise ValueError(f"{message}{known}. The integer 1 is one row, the float 1.0 all.")
    if known is None:
        holds = tf.logical_and(tf.reduce_all(holds), tf.equal(tf.rank(given), 0))
        given = _tf.set_static_shape(option_checks.asserted(given, holds, message), [])
    rows = tf.shape(batch.labels)[0]
    if valid is not None:
        rows = tf.reduce_sum(tf.cast(valid, tf.int32))
    if not is_share:
        return tf.cast(tf.minimum(tf.cast(given, tf.int64), tf.cast(rows, tf.int64)), tf.int32)
    quota = tf.cast(given, tf.float64) * tf.cast(rows, tf.float64)
    whole = tf.round(quota)
    # A tenth of ten rows is one row, although the float of a tenth is a little more than that.
    roundoff = np.finfo(given.dtype.as_numpy_dtype).eps
    is_whole = tf.abs(quota - whole) <= roundoff * quota
    return tf.cast(_tf.where(is_whole, whole, tf.ceil(quota)), tf.int32)


def _is_share(value: Any) -> Any:
    return (value > 0) & (value <= 1)
