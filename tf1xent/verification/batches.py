"""The batches that both sides are fed: random ones and adversarial ones, from a seed. One table.

All kinds of labels of a batch describe the same classes, so that a side that takes numbers of
classes and one that takes one-hot rows can be compared.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from tf1xent.verification.kinds import KINDS

Arrays = Dict[str, np.ndarray]
# The key of the vector that the Hessian is multiplied by, of an input's kind.
VECTOR = "vector:"
GAPS = (20.0, 50.0, 90.0, 200.0)


class Setting(NamedTuple):
    """What batches and the reading of parameters depend on.

    Attributes:
      labels: the kind of what is called labels.
      num_classes: at least 2.
      batch_size: B, at least 1.
      time_steps: T, where rows are [B, T]; None where they are [B].
      seed: of everything that is random.
      dtypes: of the floating inputs, one after the other.
      inputs: `kinds.Input`s.
      without: names of batches that are left out.
    """

    labels: str = "sparse"
    num_classes: int = 5
    batch_size: int = 6
    time_steps: Optional[int] = None
    seed: int = 0
    dtypes: Tuple[str, ...] = ("float64", "float32")
    inputs: Tuple[Any, ...] = ()
    without: Tuple[str, ...] = ()


class Batch(NamedTuple):
    """The arrays of a batch by kind, rows in one axis.

    Attributes:
      name: of the row of BATCHES.
      dtype: of the floating arrays.
      size: B.
      needs: kinds of which one side must take one, else nothing is compared.
      without: kinds of which no side may take one.
      arrays: by kind; and by VECTOR + kind.
    """

    name: str
    dtype: str
    size: int
    needs: Tuple[str, ...]
    without: Tuple[str, ...]
    arrays: Arrays

    @property
    def key(self) -> Tuple[str, str]:
        """Dtype and name."""
        return self.dtype, self.name


class BatchKind(NamedTuple):
    """A row of BATCHES.

    Attributes:
      name: of the batch.
      purpose: the mistakes that it is for.
      make: takes a random state, and the arrays of a plain batch that it may change in place.
      size: B; None for the setting's.
      benign: whether every textbook formula is right on it.
      needs, without: as of `Batch`.
    """

    name: str
    purpose: str
    make: Callable[[np.random.RandomState, Arrays], None]
    size: Optional[int] = None
    benign: bool = False
    needs: Tuple[str, ...] = ()
    without: Tuple[str, ...] = ()


def _plain(random: np.random.RandomState, arrays: Arrays) -> None:
    pass


def _masked(random: np.random.RandomState, arrays: Arrays) -> None:
    arrays["mask"][1::2] = 0.0


def _confident(sign: float) -> Callable[[np.random.RandomState, Arrays], None]:
    """Gaps between the label's logit and the others, but for some ordinary rows."""

    def make(random: np.random.RandomState, arrays: Arrays) -> None:
        for row, gap in zip(range(1, len(arrays["logits"])), GAPS * len(arrays["logits"])):
            arrays["logits"][row] = random.uniform(-1.0, 1.0, arrays["logits"].shape[1])
            arrays["logits"][row, arrays["sparse"][row]] += sign * gap

    return make


def _ties(random: np.random.RandomState, arrays: Arrays) -> None:
    arrays["logits"][1::3] = 0.0
    largest = arrays["logits"][2::3].max(axis=1, keepdims=True)
    arrays["logits"][2::3, -2:] = largest


def _shifted(random: np.random.RandomState, arrays: Arrays) -> None:
    arrays["logits"][1:] += 1e4


def _huge(random: np.random.RandomState, arrays: Arrays) -> None:
    arrays["logits"][1::2] *= 1e30


def _minus_infinity(random: np.random.RandomState, arrays: Arrays) -> None:
    rows = np.arange(1, len(arrays["logits"]))
    arrays["logits"][rows, (arrays["sparse"][rows] + 1) % arrays["logits"].shape[1]] = -np.inf


def _not_finite_where_masked(random: np.random.RandomState, arrays: Arrays) -> None:
    _masked(random, arrays)
    arrays["logits"][1::4] = np.nan
    arrays["logits"][3::4] = np.inf


def _zero(kind: str) -> Callable[[np.random.RandomState, Arrays], None]:
    def make(random: np.random.RandomState, arrays: Arrays) -> None:
        arrays[kind][...] = 0.0

    return make


def _some_zero_weights(random: np.random.RandomState, arrays: Arrays) -> None:
    arrays["weights"][1::2] = 0.0
    arrays["class-weights"][0] = 0.0


def _unnormalised(random: np.random.RandomState, arrays: Arrays) -> None:
    arrays["soft"] *= random.uniform(0.2, 2.0, (len(arrays["soft"]), 1))
    arrays["soft"][1::4] = 0.0


_MASK, _WEIGHTS = ("mask",), ("weights", "class-weights")
BATCHES = (
    BatchKind("random", "any mistake in the formula", _masked, benign=True),
    BatchKind("another size", "a fixed batch size", _masked, size=4, benign=True),
    BatchKind("nothing masked", "a mask that counts twice", _plain, benign=True),
    BatchKind("one row", "squeezed axes", _plain, size=1, benign=True),
    BatchKind("no rows", "0/0 in means", _plain, size=0),
    BatchKind("confident, right", "log of 1, saturation", _confident(1.0)),
    BatchKind("confident, wrong", "log of 0, clipping, epsilons", _confident(-1.0)),
    BatchKind("ties", "maxima that are not alone", _ties, benign=True),
    BatchKind("shifted by 1e4", "overflow of exp", _shifted),
    BatchKind("1e30", "overflow of differences", _huge),
    BatchKind("-inf", "0 * inf of a class ruled out", _minus_infinity, without=("soft",)),
    BatchKind("not finite where masked", "0 * NaN", _not_finite_where_masked, needs=_MASK),
    BatchKind("all masked", "0/0 in masked means", _zero("mask"), needs=_MASK),
    BatchKind("some weights 0", "what is counted", _some_zero_weights, benign=True, needs=_WEIGHTS),
    BatchKind("all weights 0", "0/0 in weighted means", _zero("weights"), needs=("weights",)),
    BatchKind("unnormalised labels", "labels that must sum to 1", _unnormalised, needs=("soft",)),
)
BENIGN = tuple(kind.name for kind in BATCHES if kind.benign)


def make_batches(setting: Setting) -> List[Batch]:
    """Returns the batches of a setting, for each dtype; what overflows in a dtype is left out."""
    made = []
    for number, kind in enumerate(BATCHES):
        if kind.name in setting.without:
            continue
        size = setting.batch_size if kind.size is None else kind.size
        random = np.random.RandomState([setting.seed, number])
        arrays = _plain_arrays(random, size * (setting.time_steps or 1), setting.num_classes)
        kind.make(random, arrays)
        vectors = {
            VECTOR + name: random.standard_normal(arrays[name].shape)
            for name, inner in KINDS.items()
            if inner.differentiated and name != "probabilities"
        }
        for dtype in setting.dtypes:
            cast = _cast({**arrays, **vectors}, dtype)
            made.append(Batch(kind.name, dtype, size, kind.needs, kind.without, cast))
    return made


def _plain_arrays(random: np.random.RandomState, rows: int, classes: int) -> Arrays:
    """Every class is some row's; no two rows, weights or classes are alike."""
    numbers = random.permutation(np.arange(rows) % classes).astype(np.int64)
    one_hot = np.eye(classes)[numbers]
    shares = random.uniform(0.0, 1.0, (rows, classes)) ** 2
    shares[:, 1:] *= random.uniform(0.0, 1.0, (rows, classes - 1)) > 0.2
    # The label is the likeliest class, so that confident rows are right or wrong for all kinds.
    shares = 0.25 * shares / np.maximum(shares.sum(axis=1, keepdims=True), 0.1) + one_hot
    return {
        "logits": 2.0 * random.standard_normal((rows, classes)),
        "sparse": numbers,
        "one-hot": one_hot,
        "soft": shares / shares.sum(axis=1, keepdims=True),
        "multi-hot": np.maximum(one_hot, random.uniform(0.0, 1.0, (rows, classes)) > 0.7),
        "mask": np.ones(rows),
        "weights": random.uniform(0.5, 2.0, rows),
        "class-weights": random.uniform(0.5, 2.0, classes),
    }


def _cast(arrays: Arrays, dtype: str) -> Arrays:
    """Rounds to a dtype; probabilities are made of what the logits are then."""
    cast = {
        name: array if array.dtype.kind == "i" else array.astype(dtype)
        for name, array in arrays.items()
    }
    logits = cast["logits"].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        powers = np.exp(logits - np.max(logits, axis=1, keepdims=True, initial=-np.inf))
        cast["probabilities"] = (powers / powers.sum(axis=1, keepdims=True)).astype(dtype)
    cast[VECTOR + "probabilities"] = cast[VECTOR + "logits"]
    return cast


def save_batches(path: str, batches: Sequence[Batch]) -> None:
    """Writes batches for another process; `load_batches` reads them."""
    arrays: Arrays = {}
    for number, batch in enumerate(batches):
        arrays[f"{number}"] = np.array([batch.name, batch.dtype, str(batch.size)])
        for kind, array in batch.arrays.items():
            arrays[f"{number} {kind}"] = array
    np.savez(path, **arrays)  # type: ignore[arg-type]


def load_batches(path: str) -> List[Batch]:
    """Reads what `save_batches` has written; what a side needs not know is left out."""
    found: Dict[int, Tuple[List[str], Arrays]] = {}
    with np.load(path) as file:
        for name in file.files:
            number, _, kind = name.partition(" ")
            facts, arrays = found.setdefault(int(number), ([], {}))
            if kind:
                arrays[kind] = file[name]
            else:
                facts += [str(fact) for fact in file[name]]
    return [
        Batch(name, dtype, int(size), (), (), arrays)
        for _, ((name, dtype, size), arrays) in sorted(found.items())
    ]
