"""Cross-entropies written by hand, and what is done by hand to their inputs and results."""

from typing import Tuple

from tf1xent.migrate.rule import Rule
from tf1xent.migrate.rules import denominators, logs, masks, softmax_as_logits, weights

RULES: Tuple[Rule, ...] = (
    *logs.RULES,
    *softmax_as_logits.RULES,
    *weights.RULES,
    *masks.RULES,
    *denominators.RULES,
)
