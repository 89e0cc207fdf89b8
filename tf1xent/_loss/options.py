"""The options of the losses, each in one row of one table, and the functions that take them.

To add an option, add its row to `TABLE` and its name and type to the classes of the functions that
take it; resolve it in `tf1xent._loss.resolve`, and use it in `tf1xent._loss.objective`. Signatures,
completion, the checks of type checkers and the Args sections of docstrings follow from this module,
by `tf1xent._loss.faces`.
"""

from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, NamedTuple, Optional

from tf1xent._typing import TensorLike

if TYPE_CHECKING:
    from typing_extensions import TypedDict
else:

    class TypedDict:
        """Python 3.7 has no typed dictionaries; at run time only the annotations are read."""

        def __init_subclass__(cls, total: bool = True) -> None:
            """Takes the keyword of the real one."""


INVALID_LABELS = ("raise", "nan", "ignore")

# --- Which functions take which options: names and types ----------------------------------------
#
# A type of None says that the function takes the name only to refuse it.


class _EveryLoss(TypedDict, total=False):
    mask: Optional[TensorLike]
    class_weights: Optional[TensorLike]


class _EveryLossOfLogits(_EveryLoss, total=False):
    class_mask: Optional[TensorLike]
    z_loss: TensorLike
    temperature: TensorLike
    focal_gamma: TensorLike
    softcap: Optional[TensorLike]
    logit_adjustment: Optional[TensorLike]
    implementation: Optional[str]


class _IntegerLabels(TypedDict, total=False):
    ignore_label: Optional[TensorLike]
    invalid_labels: Optional[str]


class _SoftLabels(TypedDict, total=False):
    ignore_label: None
    invalid_labels: None


class _ReducedLoss(TypedDict, total=False):
    top_k_examples: Optional[TensorLike]


class SequenceOptions(_EveryLossOfLogits, _IntegerLabels, _ReducedLoss, total=False):
    """The options of `tf1xent.losses.sequence_loss`."""

    label_smoothing: TensorLike


class SparseLossOptions(SequenceOptions, total=False):
    """The options of `tf1xent.losses.sparse_softmax_cross_entropy`."""

    axis: int


class SparseOptions(_EveryLossOfLogits, _IntegerLabels, total=False):
    """The options of the losses by row of integer labels, in `tf1xent.nn`."""

    weights: Optional[TensorLike]
    label_smoothing: TensorLike
    axis: int


class DenseLossOptions(_EveryLossOfLogits, _SoftLabels, _ReducedLoss, total=False):
    """The options of `tf1xent.losses.softmax_cross_entropy`."""

    skip_missing: bool
    axis: int


class DenseOptions(_EveryLossOfLogits, _SoftLabels, total=False):
    """The options of the losses by row of label distributions, in `tf1xent.nn`."""

    weights: Optional[TensorLike]
    label_smoothing: TensorLike
    axis: int


class ProbabilityOptions(_EveryLoss, total=False):
    """The options of `tf1xent.nn.softmax_cross_entropy_with_probabilities`."""

    epsilon: TensorLike
    look_through_softmax: bool
    weights: Optional[TensorLike]
    label_smoothing: TensorLike
    focal_gamma: TensorLike
    axis: int


class ShardedOptions(_EveryLoss, _IntegerLabels, _ReducedLoss, total=False):
    """The options of the losses whose classes may be in shards: those of
    `tf1xent.losses.sharded_softmax_cross_entropy`, and of `linear_softmax_cross_entropy`."""

    label_smoothing: TensorLike
    class_mask: Optional[TensorLike]
    z_loss: TensorLike
    temperature: TensorLike
    focal_gamma: TensorLike
    softcap: Optional[TensorLike]
    logit_adjustment: Optional[TensorLike]


class LinearOptions(ShardedOptions, total=False):
    """The options of `tf1xent.losses.linear_softmax_cross_entropy`."""

    implementation: Optional[str]


# --- The table ----------------------------------------------------------------------------------


class Option(NamedTuple):
    """One option.

    Attributes:
      name: that of the argument.
      default: its value where it is not given.
      meaning: its entry in the Args sections.
      requirement: in words, what a number must be; None for what is no number.
      holds: the same as a test, ``holds(value, limits)``, of arrays and tensors alike. `limits` are
        those of the computing dtype: TensorFlow computes with less than `tiny` as 0, and a constant
        of infinity would trip NaN detectors.
      neutral: the number with which the option changes nothing; None: there is none.
      by_class: whether it is a vector, one number for each class; else a number is a scalar.
      hint: what else an error about its shape says.
    """

    name: str
    default: Any
    meaning: str
    requirement: Optional[str] = None
    holds: Optional[Callable[[Any, Any], Any]] = None
    neutral: Optional[float] = None
    by_class: bool = False
    hint: str = ""


def _is_positive(value: Any, limits: Any) -> Any:
    return (value >= limits.tiny) & (value <= limits.max)


def _is_not_negative(value: Any, limits: Any) -> Any:
    return (value >= 0) & (value <= limits.max)


TABLE = (
    Option(
        "epsilon",
        1e-10,
        "in (0, 1); smaller probabilities count as this.",
        "in (0, 1)",
        lambda value, limits: (value >= limits.tiny) & (value < 1),
    ),
    Option(
        "look_through_softmax",
        False,
        "whether to compute the loss from the logits where the probabilities are the output of "
        "tf.nn.softmax over the class axis, the last, in a graph; nothing that softmax has rounded "
        "is lost then, and `epsilon` clips nothing. Values fed for the probabilities are not read. "
        "Off by default.",
    ),
    Option(
        "mask",
        None,
        "True (or not 0) for the rows that count; of the losses' rank, each size theirs or 1.",
    ),
    Option(
        "skip_missing",
        False,
        "whether rows whose labels are all zero do not count; with a mask it alone decides. "
        "tf.losses counts them.",
    ),
    Option(
        "ignore_label",
        None,
        "an integer, in the range of the classes or not (-1, -100, 255), or several: a sequence "
        "of them, or an integer tensor, a scalar or a vector. Rows with such a label do not "
        "count.",
    ),
    Option(
        "weights",
        None,
        "a number for all rows, or by row: of the losses' rank, each size theirs or 1.",
    ),
    Option(
        "class_weights",
        None,
        "`[num_classes]`, at least 0; each class's term is multiplied by its own, also the share "
        "that label smoothing gives it. The row's z_loss is not.",
        "at least 0",
        lambda value, limits: value >= 0,
        by_class=True,
        hint="For weights by row there is `weights`.",
    ),
    Option(
        "label_smoothing",
        0.0,
        "in [0, 1): the share of the label that is spread evenly over the classes.",
        "in [0, 1)",
        lambda value, limits: (value >= 0) & (value < 1),
        neutral=0,
    ),
    Option(
        "class_mask",
        None,
        "bool, `[num_classes]` or of the logits' rank with each size theirs or 1; False leaves a "
        "class out of the partition and of the smoothing. The loss of a row whose label is left "
        "out is +inf.",
    ),
    Option(
        "z_loss",
        0.0,
        "factor of z^2, at least 0, where z is the log-partition; it keeps the partition near 1.",
        "at least 0 and finite",
        _is_not_negative,
        neutral=0,
    ),
    Option(
        "temperature",
        1.0,
        "above 0; divides the logits.",
        "above 0 and finite",
        _is_positive,
        neutral=1,
    ),
    Option(
        "focal_gamma",
        0.0,
        "exponent of the focal loss, at least 0.",
        "at least 0 and finite",
        _is_not_negative,
        neutral=0,
    ),
    Option(
        "softcap",
        None,
        "above 0; bounds the logits smoothly, before the temperature.",
        "above 0 and finite",
        _is_positive,
    ),
    Option(
        "logit_adjustment",
        None,
        "`[num_classes]`, finite; added to x_j of the formula, after softcap and temperature and "
        "before the class mask: x_j + logit_adjustment_j. The log of the classes' shares in the "
        "data, for labels with a long tail (Menon et al., ICLR 2021, arXiv 2007.07314); leave it "
        "out of predictions.",
        "finite",
        lambda value, limits: (value >= limits.min) & (value <= limits.max),
        by_class=True,
    ),
    Option(
        "top_k_examples",
        None,
        "only the k largest weighted losses of the rows that count are in the sum and in the "
        "denominator; the others are like rows that do not count. An integer k of at least 1, or a "
        "share in (0, 1] of the rows that count, rounded up to whole rows; also a scalar tensor "
        "of integers or floats. Of equal losses those of the first rows are chosen. Derivatives "
        "are those of the chosen rows; the choice is a constant. Known as online hard example "
        "mining: Shrivastava et al., CVPR 2016 (arXiv 1604.03540).",
    ),
    Option(
        "axis",
        -1,
        "the class axis of logits or probabilities, and of labels that are distributions.",
    ),
    Option(
        "invalid_labels",
        None,
        "what becomes of a label outside `[0, num_classes)` in a row that counts. None: as "
        "TensorFlow does, InvalidArgumentError on a CPU and NaN on a GPU or under XLA. "
        '"raise": InvalidArgumentError on every device that runs assertions. "nan": loss and '
        'derivatives of the row are NaN. "ignore": the row does not count.',
    ),
    Option(
        "implementation",
        None,
        '"graph", "kernel" or "auto", as in `tf1xent.nn.sparse_softmax_cross_entropy_with_logits`.',
    ),
)
BY_NAME = {option.name: option for option in TABLE}
_DEFAULTS = {option.name: option.default for option in TABLE}


def with_defaults(options: Mapping[str, Any]) -> Dict[str, Any]:
    """All options of the table by name: as they are given, or their defaults."""
    return {**_DEFAULTS, **options}


def given_names(options: Mapping[str, Any]) -> List[str]:
    """The names of the options that are not left at their defaults."""
    return [
        name
        for name, default in _DEFAULTS.items()
        # Tensors and arrays compare entry by entry; none of them is a default.
        if name in options
        and (
            not isinstance(options[name], (int, float, str, type(None))) or options[name] != default
        )
    ]
