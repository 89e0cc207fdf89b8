"""What the inputs of a loss can be, told by the names of parameters: one table.

Imports only the standard library, so that the command line can show the table.
"""

import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

__all__ = ["KINDS", "Input", "Kind", "named_kind", "parse_input"]

# Sizes by letter: of the batch, of time, of classes. A row is one of [B], or of [B, T].
BATCH, TIME, CLASSES = "B", "T", "C"
ROWS = "rows"
FLOAT = "float"


class Kind(NamedTuple):
    """One kind of input.

    Attributes:
      name: as `--input NAME=KIND` takes it.
      meaning: in a few words.
      dtypes: in the order in which they are tried; "float" is the dtype at hand.
      shape: of ROWS and CLASSES; None where a Python number is passed.
      differentiated: whether derivatives by it are compared.
      names: of the parameters that are of this kind, in lower case and without underscores.
    """

    name: str
    meaning: str
    dtypes: Tuple[str, ...]
    shape: Optional[Tuple[str, ...]]
    differentiated: bool
    names: Tuple[str, ...]


LABELS = "labels"
DEFAULT = "default"
KINDS: Dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "logits",
            "scores before softmax",
            (FLOAT,),
            (ROWS, CLASSES),
            True,
            ("logits", "logit", "scores", "score", "z", "unscaledlogits", "outputlogits"),
        ),
        Kind(
            "probabilities",
            "after softmax: each row sums to 1",
            (FLOAT,),
            (ROWS, CLASSES),
            True,
            (
                *("probabilities", "probability", "probs", "prob", "p", "softmax"),
                *("predictions", "prediction", "preds", "pred", "ypred", "yhat"),
            ),
        ),
        Kind("sparse", "the number of each row's class", ("int32", "int64"), (ROWS,), False, ()),
        Kind(
            "one-hot",
            "1 for the row's class, else 0",
            (FLOAT,),
            (ROWS, CLASSES),
            False,
            ("onehotlabels", "labelsonehot", "onehot", "yonehot", "onehottargets"),
        ),
        Kind(
            "soft",
            "a distribution for each row; derivatives by it count",
            (FLOAT,),
            (ROWS, CLASSES),
            True,
            ("softlabels", "softtargets", "labelprobabilities", "teacher"),
        ),
        Kind(
            "multi-hot",
            "0 or 1 for each row and class, for sigmoids",
            (FLOAT,),
            (ROWS, CLASSES),
            False,
            ("multihotlabels", "multihot", "multiclasslabels"),
        ),
        Kind(
            "mask",
            "which rows count",
            ("bool", FLOAT, "int32"),
            (ROWS,),
            False,
            ("mask", "masks", "lossmask", "labelsmask", "valid", "isvalid", "nonpadding"),
        ),
        Kind(
            "weights",
            "of rows",
            (FLOAT,),
            (ROWS,),
            False,
            ("weights", "weight", "w", "sampleweight", "sampleweights", "exampleweights"),
        ),
        Kind(
            "class-weights",
            "of classes",
            (FLOAT,),
            (CLASSES,),
            False,
            ("classweights", "classweight", "weightsbyclass"),
        ),
        Kind(
            "num-classes",
            "their number, a Python int",
            (),
            None,
            False,
            ("numclasses", "nclasses", "numlabels", "depth", "vocabsize", "classes"),
        ),
        Kind(DEFAULT, "nothing is passed: the parameter's own default", (), None, False, ()),
    )
}
# Labels, of the kind that `--labels` gives.
LABEL_NAMES = ("labels", "label", "targets", "target", "y", "ytrue", "truth", "answers", "classids")
SIDES = ("before", "after")
_SIZE = re.compile(rf"[{BATCH}{TIME}{CLASSES}]|\d+")


class Input(NamedTuple):
    """What the user says of a parameter, or of a tensor of a graph.

    Attributes:
      side: "before" or "after"; None for both.
      name: of the parameter or tensor.
      kind: a name of KINDS.
      shape: of the letters B, T and C and of numbers; None for the kind's own.
    """

    side: Optional[str]
    name: str
    kind: str
    shape: Optional[Tuple[str, ...]]


def parse_input(text: str) -> Input:
    """Reads `[SIDE.]NAME=KIND[:SHAPE]`.

    Use it for what `compare(inputs=...)` and `--input` take.

    Args:
      text: such as `y=one-hot`, `after.w=weights:B,1` or `before.name=default`.

    Returns:
      An `Input`.

    Raises:
      ValueError: the text is not of this form, or there is no such kind.

    Example:

    >>> parse_input("after.y_true=sparse:B,1")
    Input(side='after', name='y_true', kind='sparse', shape=('B', '1'))
    """
    name, equals, rest = text.rpartition("=")
    kind, _, sizes = rest.partition(":")
    shape = tuple(sizes.split(",")) if sizes else None
    known = kind in KINDS and (shape is None or KINDS[kind].shape is not None)
    if not (equals and name and known and all(map(_SIZE.fullmatch, shape or ()))):
        raise ValueError(
            f"an input must be [SIDE.]NAME=KIND[:SHAPE], got {text!r}. KIND is one of "
            f"{', '.join(KINDS)}; SHAPE has the sizes B, T, C or numbers, as in B,1."
        )
    side, dot, inner = name.partition(".")
    if dot and side in SIDES:
        return Input(side, inner, kind, shape)
    return Input(None, name, kind, shape)


def named_kind(name: str, labels: str) -> Optional[str]:
    """Returns the kind of a parameter by its name, or None.

    Args:
      name: of the parameter.
      labels: the kind of those that are called labels, targets or y.

    Returns:
      A name of KINDS, or None.

    Example:

    >>> named_kind("onehot_labels", "sparse"), named_kind("targets", "sparse")
    ('one-hot', 'sparse')
    """
    plain = name.lower().replace("_", "")
    if plain in LABEL_NAMES:
        return labels
    found: List[str] = [kind.name for kind in KINDS.values() if plain in kind.names]
    return found[0] if found else None


def chosen_input(name: str, side: str, inputs: Sequence[Input]) -> Optional[Input]:
    """Returns what the user says of a name on a side; the last one counts."""
    found = [i for i in inputs if i.name == name and i.side in (None, side)]
    return found[-1] if found else None
