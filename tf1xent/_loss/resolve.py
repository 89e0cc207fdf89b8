"""The options of a loss for one batch: checked once, and resolved into what the formula takes."""

from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Tuple

from tf1xent import _tf
from tf1xent._loss import option_checks
from tf1xent._loss.batch import Batch
from tf1xent._math.labels import assert_labels_valid, checked_label_values, names_a_class
from tf1xent._tf import tf
from tf1xent._typing import Tensor, TensorLike


class Resolved(NamedTuple):
    """The options of one batch as numbers and tensors of its rows and classes.

    Numbers are of the computing dtype: NumPy numbers where they are constants, else scalar tensors.

    Attributes:
      labels: those of the batch where a row counts, checked; else class 0, or a distribution of
        zeros.
      invalid_value: scalar, what the loss of an invalid label is made of; None: NaN.
      valid_rows: which rows count, [batch_size]; None: all.
      weights: of the rows, 0 where one does not count: [batch_size], or a scalar; None: 1.
      class_weights: [num_classes]; None: 1.
      class_included: which classes take part, all in a row that does not count: [batch_size,
        num_classes]; None: all.
      epsilon: the least probability.
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
        are_valid = names_a_class(batch.matrix, labels)
        num_classes = tf.shape(batch.matrix)[1]
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
        class_included=_class_included(batch, options["class_mask"], valid),
        focal_gamma=scalar("focal_gamma"),
        label_smoothing=scalar("label_smoothing"),
        class_weights=by_class("class_weights"),
        z_loss=scalar("z_loss"),
        epsilon=scalar("epsilon"),
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
        conditions.append(names_a_class(batch.matrix, labels))
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
