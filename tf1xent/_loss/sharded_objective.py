"""The loss of single examples whose classes are in shards, with its options.

The formula is that of `tf1xent._loss.objective`. What is by class is computed shard by shard, in
`tf1xent._math.shard_statistics`; here a few numbers by row of each shard are put together. With
label smoothing,

    sum_j c_j (z - x_j) = (sum_j c_j) (z - x_y) + sum_{j != y} c_j (x_y - x_j).
"""

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from tf1xent import _tf
from tf1xent._loss import resolve
from tf1xent._loss.batch import Batch
from tf1xent._loss.objective import PerExample, per_example, with_rows
from tf1xent._loss.resolve import Resolved
from tf1xent._loss.shards import (
    Piece,
    Shards,
    local_labels,
    mask_pieces,
    vector_pieces,
)
from tf1xent._math import shard_statistics, softmax
from tf1xent._math.focal import focal
from tf1xent._math.labels import checked_label_range
from tf1xent._math.matrix import column, infinity_unless, row_sum
from tf1xent._math.shard_statistics import Statistics, to_largest
from tf1xent._math.shard_structures import Given, Size
from tf1xent._tf import tf
from tf1xent._typing import Tensor

_BY_CLASS = ("class_weights", "logit_adjustment", "class_mask")


class _Terms:
    """What the formula reads of all shards: by row, [batch_size] each."""

    def __init__(self, found: Sequence[Statistics]) -> None:
        def joined(name: str) -> Any:
            columns = [getattr(statistics, name) for statistics in found]
            if columns[0] is None or len(columns) == 1:
                return columns[0]
            return tf.concat(columns, axis=1)

        def added(name: str) -> Any:
            values = [getattr(statistics, name) for statistics in found]
            return None if values[0] is None else tf.add_n(values)

        self.at_label = self.label_difference = added("at_label")
        self.largest, others, largest = None, joined("others"), joined("largest")
        if largest is not None:
            differences, self.largest = to_largest(tf.stop_gradient(largest))
            self.label_difference, others = self.at_label - self.largest, differences + others
        self.label_weights = added("label_weights")
        self.num_included = added("num_included")
        self.row = tf.concat([column(self.label_difference), others], axis=1)
        self.shares = self.gaps = None
        shares = joined("shares")
        if shares is not None:
            # c (x_y - m) + g, summed. The label's difference counts as 0 where it is left out.
            zeros = tf.zeros_like(self.label_difference)
            at_label = _tf.where(self.takes_part(), self.label_difference, zeros)
            references = tf.zeros_like(shares) if largest is None else differences
            label_gaps = column(at_label) - references
            gaps = joined("gaps") + _tf.multiply_no_nan(label_gaps, shares)
            self.shares, self.gaps = row_sum(shares), row_sum(gaps)

    def takes_part(self) -> Tensor:
        """Which labels are not left out by a class mask, nor by a logit of -inf."""
        return self.at_label > self.at_label.dtype.min


def losses_of_shards(
    examples: Batch, shards: Shards, shared: Given, options: Mapping[str, Any]
) -> PerExample:
    """The `PerExample` of a batch whose logits are in shards; `examples.matrix` is not read.

    `shared` are the operands that all shards have: the inputs of a linear layer.
    """
    num_classes = shards.num_classes
    examples = examples._replace(all_classes=num_classes)

    def check(_: Tensor, labels: Tensor) -> Tuple[Tensor, Optional[Tensor]]:
        dtype = examples.matrix.dtype
        return checked_label_range(labels, num_classes, dtype)

    by_row = dict(options, **dict.fromkeys(_BY_CLASS))
    resolved = resolve.of_integer_labels(examples, by_row, check_labels=check)
    if "inputs" in shared and resolved.valid_rows is not None:
        inputs = shared["inputs"]
        inputs = _tf.select_rows(resolved.valid_rows, inputs, tf.zeros_like(inputs))
        shared = dict(shared, inputs=inputs)
    operands, constants = _operands(examples, shards, shared, options, resolved)
    labels = local_labels(shards, resolved.labels)
    terms = _Terms(_statistics(shards, labels, operands, constants, resolved))
    valid = examples.names_a_class(resolved.labels)
    first = tf.zeros_like(resolved.labels)
    label_losses = softmax.sparse_loss(
        terms.row,
        _tf.where(valid, first, first - 1),
        invalid_value=resolved.invalid_value,
        name=examples.function,
    )

    def log_partition() -> Tensor:
        partition = softmax.log_partition(terms.row)
        return partition if terms.largest is None else terms.largest + partition

    def focal_terms() -> Tensor:
        return _focal_terms(shards, labels, operands, constants, terms, resolved)

    if options["class_mask"] is not None:
        label_losses = label_losses + infinity_unless(terms.takes_part(), label_losses)
    losses = _sum_over_classes(label_losses, terms, resolved, num_classes, focal_terms)
    losses = with_rows(losses, log_partition, resolved)
    return per_example(examples, resolved, losses, terms.label_weights)


def _sum_over_classes(
    label_losses: Tensor, terms: _Terms, resolved: Resolved, num_classes: Size, focal_terms: Any
) -> Tensor:
    """sum_j c_j q_j (1 - p_j)^focal_gamma (z - x_j): [batch_size]."""
    smoothing, weights = resolved.label_smoothing, terms.label_weights
    losses = focal(label_losses, resolved.focal_gamma)
    weighted = losses if weights is None else losses * weights
    if smoothing is None:
        return weighted
    share = smoothing / _number_in(terms, num_classes, losses.dtype)
    if resolved.focal_gamma is not None:
        return (1 - smoothing) * weighted + share * (weighted + focal_terms())
    if weights is None:  # all classes of weight 1: their sum takes the share's divisor away
        return losses + share * terms.gaps
    uniform = (terms.shares + weights) * losses + terms.gaps
    return (1 - smoothing) * weighted + share * uniform


def _number_in(terms: _Terms, num_classes: Size, dtype: tf.DType) -> Tensor:
    """The number of classes that take part."""
    return tf.cast(num_classes, dtype) if terms.num_included is None else terms.num_included


# --- The shards ---------------------------------------------------------------------------------


def _operands(
    examples: Batch,
    shards: Shards,
    shared: Given,
    options: Mapping[str, Any],
    resolved: Resolved,
) -> Tuple[List[Given], List[str]]:
    """The operands of each shard by name, and which are constants."""
    pieces: Dict[str, Optional[List[Piece]]] = {
        name: vector_pieces(shards, examples, name, options[name]) for name in _BY_CLASS[:2]
    }
    pieces["class_mask"] = mask_pieces(shards, examples, options["class_mask"])
    for_all, constants = dict(shared), []
    for name in ("softcap", "temperature"):
        number = getattr(resolved, name)
        if number is not None:
            for_all[name] = tf.convert_to_tensor(number)
            constants += [name] if isinstance(number, np.generic) else []
    if resolved.valid_rows is not None and (not shared or pieces["class_mask"] is not None):
        for_all["valid_rows"] = resolved.valid_rows
    operands = [dict(own, **for_all) for own in shards.operands]
    for name, by_shard in pieces.items():
        if by_shard is None:
            continue
        constants += [name] if all(is_constant for _, is_constant in by_shard) else []
        for own, (piece, _) in zip(operands, by_shard):
            own[name] = piece
    return operands, constants


def _statistics(
    shards: Shards,
    labels: Sequence[Tensor],
    operands: Sequence[Given],
    constants: Sequence[str],
    resolved: Resolved,
) -> List[Statistics]:
    """Of each shard; where it is one of several, of all its chunks together."""
    found = []
    for own_labels, given, number in zip(labels, operands, shards.sizes):
        statistics = shard_statistics.statistics(
            own_labels,
            given,
            constants=constants,
            smoothed=resolved.label_smoothing is not None,
            chunk_size=shards.chunk_size,
            is_placed=shards.is_placed,
            by_kernels=shards.by_kernels,
        )
        is_one_chunk = not shards.chunk_size or (
            isinstance(number, int) and number <= shards.chunk_size
        )
        if shards.is_placed and not is_one_chunk:
            statistics = shard_statistics.merged(statistics)
        found.append(statistics)
    return found


def _focal_terms(
    shards: Shards,
    labels: Sequence[Tensor],
    operands: Sequence[Given],
    constants: Sequence[str],
    terms: _Terms,
    resolved: Resolved,
) -> Tensor:
    """The focal loss of all classes but the label, each weighted: [batch_size]."""
    gamma = resolved.focal_gamma
    constants = list(constants) + (["focal_gamma"] if isinstance(gamma, np.generic) else [])
    by_row = {
        "focal_gamma": tf.convert_to_tensor(gamma),
        "log_partition": softmax.log_partition(terms.row),
    }
    if terms.largest is not None:
        by_row["largest"] = terms.largest
    return tf.add_n(
        [
            shard_statistics.focal_terms(
                own_labels,
                dict(given, **by_row),
                constants=constants,
                chunk_size=shards.chunk_size,
                is_placed=shards.is_placed,
            )
            for own_labels, given in zip(labels, operands)
        ]
    )
