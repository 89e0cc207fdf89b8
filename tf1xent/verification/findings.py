"""What is found about one quantity on one batch, and the verdicts there are."""

from typing import NamedTuple, Optional

EQUAL = "equal"
BEFORE_WRONG = "BEFORE is wrong"
BOTH_WRONG = "both are wrong alike"
# Of Hessian-vector products: those of old TensorFlows.
MISSING = "AFTER has none"
DIFFERENT = "different"
# From what is worst to report.
VERDICTS = (DIFFERENT, MISSING, BEFORE_WRONG, BOTH_WRONG, EQUAL)


class Finding(NamedTuple):
    """One quantity on one batch.

    Attributes:
      quantity: "value", "gradient by KIND" or "product by KIND".
      dtype: of the inputs.
      batch: its name.
      verdict: one of VERDICTS.
      relative: the largest difference of both sides, divided by the largest entry.
      ulp: the largest difference, in units of the last place of the entry itself.
      before_error, after_error: the largest error of each, divided by the largest entry; None
        where the exact result is not known.
      before_exact, after_exact: whether each entry, however small, is accurate; None likewise.
      example: the entry that is worst: its index, and its numbers.
      reason: what is to be said about it; may be empty.
    """

    quantity: str
    dtype: str
    batch: str
    verdict: str
    relative: float = 0.0
    ulp: float = 0.0
    before_error: Optional[float] = None
    after_error: Optional[float] = None
    before_exact: Optional[bool] = None
    after_exact: Optional[bool] = None
    example: str = ""
    reason: str = ""
