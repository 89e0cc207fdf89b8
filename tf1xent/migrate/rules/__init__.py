"""The rules: one file for a family of forms; each has its `RULES`."""

from typing import Tuple

from tf1xent.migrate.rule import Rule
from tf1xent.migrate.rules import calls, forms, losses, one_hot, order, sequences

# The order in which they are asked about a node: a larger form before what it is made of.
RULES: Tuple[Rule, ...] = (
    *forms.RULES,
    *order.RULES,
    *one_hot.RULES,
    *losses.RULES,
    *sequences.RULES,
    *calls.RULES,
)
