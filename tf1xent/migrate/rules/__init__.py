"""The rules: one file for a family of forms; each has its `RULES`."""

from typing import Tuple

from tf1xent.migrate.rule import Rule
from tf1xent.migrate.rules import calls, forms

# The order in which they are asked about a node: a larger form before what it is made of.
RULES: Tuple[Rule, ...] = (*forms.RULES, *calls.RULES)
