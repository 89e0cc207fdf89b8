"""What one shard of the classes tells of each row: a few numbers, from which the loss is made.

Of a shard of logits x, or of the logits X W + b of a shard of the weights, transformed by the
options, chunk by chunk (`tf1xent._math.shard_maps`), with the sums over the classes of the shard:

    a = the label's logit if the label lies in the shard, else 0
    m = max_j x_j,  r = log sum_{j != y} exp(x_j - m)           m is a constant of the derivatives
    w = the label's class weight if the label lies in the shard, else 0
    c = sum_{j != y} c_j,  g = sum_{j != y} c_j (m - x_j)       for label smoothing
    k = the number of classes left in

Logits X W + b are rounded to their own size when they are made. There m is taken to be 0, which
leaves out what it costs to carry m along.

and because the label's own term is never added to the others', and M = max of all m,

    loss = cross-entropy of the row [x_y - M, (m_1 - M) + r_1, ..., (m_n - M) + r_n] with label 0,

with the entries of n shards or chunks: only differences of logits are rounded, so that adding 1e6
to all of them changes nothing. Smoothing needs sum_{j != y} c_j (x_y - x_j), which is the sum of
c (x_y - m) + g over the shards.
"""

import functools
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._math import chunk as one_chunk
from tf1xent._math import chunk_kernels, softmax, transforms
from tf1xent._math.dtypes import precise_dtype
from tf1xent._math.focal import focal
from tf1xent._math.labels import label_classes
from tf1xent._math.matrix import column, is_left_out, row_sum
from tf1xent._math.shard_maps import apply
from tf1xent._math.shard_structures import (
    CONSTANT,
    FUNCTIONS,
    SHARED,
    STACKED,
    STACKED_CONSTANT,
    Given,
    Kind,
    ShardFunction,
)
from tf1xent._tf import tf
from tf1xent._typing import Tensor


def _logits(given: Given) -> Tuple[Tensor, Optional[Tensor]]:
    """x of the formula, of one chunk: [batch_size, chunk_size]; which classes take part, or None.

    All take part in a row that does not count.
    """
    if "logits" in given:
        logits = tf.cast(given["logits"], precise_dtype(given["logits"]))
    else:
        inputs, transposed = given["inputs"], "transposed_weights" in given
        weights = given["transposed_weights" if transposed else "weights"]
        logits = tf.matmul(inputs, tf.cast(weights, inputs.dtype), transpose_b=transposed)
        if "biases" in given:
            logits = tf.nn.bias_add(logits, tf.cast(given["biases"], inputs.dtype))
    valid_rows = given.get("valid_rows")
    included = transforms.included(given.get("class_mask"), valid_rows, logits)
    transformed = transforms.transformed(
        logits,
        valid_rows=valid_rows,
        class_included=included,
        softcap=given.get("softcap"),
        temperature=given.get("temperature"),
        logit_adjustment=given.get("logit_adjustment"),
    )
    return transformed, included


def _class_shares(
    given: Given, logits: Tensor, included: Optional[Tensor], inside: Tensor, classes: Tensor
) -> Tensor:
    """c_j where class j takes part and is not the label, else 0: [batch_size, chunk_size]."""
    shares = tf.ones_like(logits)
    if "class_weights" in given:
        shares = shares * given["class_weights"]
    if included is not None:
        shares = _tf.where(included, shares, tf.zeros_like(shares))
    # Not by gathering: TF 2.4's gradient of that is wrong in shape for an empty batch.
    is_label = tf.equal(tf.range(tf.shape(shares)[1]), column(classes))
    is_label = tf.logical_and(is_label, column(inside))
    return _tf.where(is_label, tf.zeros_like(shares), shares)


def _sums_of_others(
    given: Given,
    logits: Tensor,
    included: Optional[Tensor],
    reference: Optional[Tensor],
    at_label: Tensor,
    inside: Tensor,
    classes: Tensor,
) -> Tuple[Tensor, Tensor]:
    """(c, g) of a chunk; `reference` is m, or None for 0."""
    differences = -logits if reference is None else column(reference) - logits
    if "class_weights" in given or "class_mask" in given:
        shares = _class_shares(given, logits, included, inside, classes)
        return row_sum(shares), row_sum(_tf.multiply_no_nan(differences, shares))
    # All classes weigh 1: the label's difference is taken from the sum of all.
    num_classes = tf.cast(tf.shape(logits)[1], logits.dtype)
    own = -at_label if reference is None else reference - at_label
    is_there = tf.logical_and(inside, tf.logical_not(is_left_out(at_label)))
    own = _tf.where(is_there, own, tf.zeros_like(own))
    return num_classes - tf.cast(inside, logits.dtype), row_sum(differences) - own


def _statistics(
    labels: Tensor,
    given: Given,
    smoothed: bool,
    of_chunk: Callable[..., List[Tensor]] = one_chunk.statistics,
) -> List[Tensor]:
    logits, included = _logits(given)
    inside, classes = label_classes(logits, labels)
    at_label, largest, others = of_chunk(logits, inside, classes)
    reference: Optional[Tensor] = None
    if "logits" in given:
        reference = tf.stop_gradient(largest)
        outputs = [at_label, column(largest), column(others)]
    else:
        outputs = [at_label, column(largest + others)]
    if "class_weights" in given:
        weights = tf.gather(given["class_weights"], classes)
        outputs.append(_tf.where(inside, weights, tf.zeros_like(weights)))
    if smoothed:
        sums = _sums_of_others(given, logits, included, reference, at_label, inside, classes)
        outputs += [column(one) for one in sums]
        if included is not None:
            outputs.append(row_sum(tf.cast(included, logits.dtype)))
    return outputs


def _statistics_outputs(names: Sequence[str], smoothed: bool) -> List[Kind]:
    kinds = [SHARED, STACKED_CONSTANT, STACKED] if "logits" in names else [SHARED, STACKED]
    if "class_weights" in names:
        kinds.append(SHARED)
    if smoothed:
        kinds += [STACKED, STACKED]
        if "class_mask" in names:
            kinds.append(CONSTANT)
    return kinds


def _merged(labels: Tensor, given: Given, smoothed: bool) -> List[Tensor]:
    """(m, r) of the chunks of a shard as those of the shard, and (c, g): [batch_size, 1] each."""
    others, outputs = given["chunk_others"], []
    shares, gaps = given.get("chunk_shares"), given.get("chunk_gaps")
    if "chunk_largest" in given:
        differences, largest = to_largest(given["chunk_largest"])
        outputs, others = [largest], differences + others
        gaps = gaps + _tf.multiply_no_nan(-differences, shares) if smoothed else None
    outputs.append(softmax.log_partition(others))
    outputs += [row_sum(shares), row_sum(gaps)] if smoothed else []
    return [column(output) for output in outputs]


def _merged_outputs(names: Sequence[str], smoothed: bool) -> List[Kind]:
    kinds = [STACKED_CONSTANT, STACKED] if "chunk_largest" in names else [STACKED]
    return kinds + ([STACKED, STACKED] if smoothed else [])


def _focal_terms(labels: Tensor, given: Given, flag: bool) -> List[Tensor]:
    """sum_{j != y} c_j focal(z - x_j); `log_partition` is that of x - M, `largest` is M or none."""
    logits, included = _logits(given)
    shares = _class_shares(given, logits, included, *label_classes(logits, labels))
    if "largest" in given:
        logits = logits - column(given["largest"])
    surprisals = column(given["log_partition"]) - logits
    absent = tf.logical_or(tf.equal(shares, 0), surprisals < 0)  # below 0 by rounding alone
    surprisals = _tf.where(absent, tf.zeros_like(surprisals), surprisals)
    return [row_sum(shares * focal(surprisals, given["focal_gamma"]))]


STATISTICS = ShardFunction(_statistics, _statistics_outputs)
MERGED = ShardFunction(_merged, _merged_outputs)
FOCAL_TERMS = ShardFunction(_focal_terms, lambda names, flag: [SHARED])
# The same as `STATISTICS`, by native ops.
KERNEL_STATISTICS = ShardFunction(
    functools.partial(_statistics, of_chunk=chunk_kernels.statistics), _statistics_outputs
)
FUNCTIONS += [STATISTICS, MERGED, FOCAL_TERMS, KERNEL_STATISTICS]


def to_largest(largest: Tensor) -> Tuple[Tensor, Tensor]:
    """(m - M, M) of m, [batch_size, n], with M = max m: what only rounds differences."""
    of_all = tf.reduce_max(largest, axis=1)
    return largest - column(of_all), of_all


# --- All classes of a shard ---------------------------------------------------------------------


class Statistics(NamedTuple):
    """Of one shard, or of its chunks: see the module.

    Attributes:
      at_label: a, [batch_size].
      largest, others: m and r, [batch_size, n]; m is None where it is taken to be 0.
      label_weights: w, [batch_size]; None without class weights.
      shares, gaps: c and g, [batch_size, n]; None without smoothing.
      num_included: k, [batch_size]; None without smoothing, or without a class mask.
    """

    at_label: Tensor
    largest: Optional[Tensor]
    others: Tensor
    label_weights: Optional[Tensor]
    shares: Optional[Tensor]
    gaps: Optional[Tensor]
    num_included: Optional[Tensor]


def statistics(
    labels: Tensor,
    operands: Given,
    *,
    constants: Sequence[str] = (),
    smoothed: bool = False,
    chunk_size: int = 0,
    is_placed: bool = False,
    by_kernels: bool = False,
) -> Statistics:
    """The statistics of each chunk of one shard; `labels` are classes of the shard, or others.

    `operands` by name, of those that `tf1xent._math.shard_structures.OPERANDS` lists: `logits`, or
    `inputs`, `weights` or `transposed_weights` and maybe `biases`; and those of the options. See
    `tf1xent._math.shard_maps.apply` for the rest. `by_kernels`: by native ops.
    """
    outputs = apply(
        KERNEL_STATISTICS if by_kernels else STATISTICS,
        labels,
        operands,
        constants=constants,
        flag=smoothed,
        chunk_size=chunk_size,
        is_placed=is_placed,
    )
    found = iter(outputs)
    at_label, largest = next(found), next(found) if "logits" in operands else None
    others = next(found)
    label_weights = next(found) if "class_weights" in operands else None
    shares, gaps = (next(found), next(found)) if smoothed else (None, None)
    num_included = next(found, None)
    return Statistics(at_label, largest, others, label_weights, shares, gaps, num_included)


def merged(statistics_of_chunks: Statistics) -> Statistics:
    """The statistics of a shard, computed beside it from those of its chunks: n is 1."""
    found = statistics_of_chunks
    operands = {
        "chunk_largest": found.largest,
        "chunk_others": found.others,
        "chunk_shares": found.shares,
        "chunk_gaps": found.gaps,
    }
    there = {name: tensor for name, tensor in operands.items() if tensor is not None}
    no_labels, smoothed = tf.zeros([0], tf.int32), found.shares is not None
    outputs = iter(apply(MERGED, no_labels, there, flag=smoothed, is_placed=True))
    largest = None if found.largest is None else next(outputs)
    others = next(outputs)
    shares, gaps = (next(outputs), next(outputs)) if smoothed else (None, None)
    return found._replace(largest=largest, others=others, shares=shares, gaps=gaps)


def focal_terms(
    labels: Tensor,
    operands: Given,
    *,
    constants: Sequence[str] = (),
    chunk_size: int = 0,
    is_placed: bool = False,
) -> Tensor:
    """sum_{j != y} c_j (1 - p_j)^focal_gamma (z - x_j) over the classes of a shard: [batch_size].

    The operands of `statistics`, with `focal_gamma`, `largest`, which is M, or none for 0, and
    `log_partition`, that of x - M over all shards.
    """
    (terms,) = apply(
        FOCAL_TERMS,
        labels,
        operands,
        constants=constants,
        chunk_size=chunk_size,
        is_placed=is_placed,
    )
    return terms
