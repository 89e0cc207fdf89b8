"""Losses over classes in shards, in two and three real processes, against one process.

And against the oracle where it has the definition.
"""

import itertools

import numpy as np
import pytest

from tests.clusters import sharded_cases
from tests.clusters.comparison import Errors, results
from tests.clusters.sharded_cases import LABELS, OFTEN_WRONG, OPTIONS, STRATEGIES, Case
from tf1xent.losses import Reduction

LIMIT = 1e-12
SHARDS = (1, 2, 3, 7)
LOSSES = ("logits", "linear")
EVERYDAY = [
    Case("logits", (), num_shards=3),
    Case("logits", OFTEN_WRONG, 2, "mod", "some", Reduction.MEAN, num_tasks=2, lists=True),
    Case("linear", ("label_smoothing",), 2, "div", "one", num_tasks=2, chunk_size=3),
]


def varied(loss, number, options, **chosen):
    """A case in which all that is not chosen changes from number to number."""
    values = {
        "num_shards": SHARDS[number % 4],
        "strategy": STRATEGIES[number // 4 % 2],
        "labels": ("every", "one", "some")[number % 3],
        "num_tasks": 2 + number // 2 % 2,
        "lists": number // 3 % 2 == 0,
    }
    if loss == "linear":
        values.update(chunk_size=(None, 1, 2)[number // 2 % 3], transposed=number // 3 % 2 == 1)
    else:
        values.update(chunk_size=(None, 3)[number // 4 % 2])
    values.update(chosen)
    return Case(loss, options, **values)


def of_options():
    """Every option alone in both losses, all at once, and pairs of what is often wrong."""
    alone = [()] + [(name,) for name in OPTIONS] + [tuple(OPTIONS)]
    cases = [varied("logits", number, names) for number, names in enumerate(alone)]
    cases += [varied("linear", number + 1, names) for number, names in enumerate(alone)]
    for number, pair in enumerate(itertools.combinations(OFTEN_WRONG, 2)):
        cases.append(varied(LOSSES[number % 2], number + 2, pair))
    return cases


def of_layouts():
    """Labels on every shard, on one, on some and on none, of every number of shards."""
    cases = []
    for number, (labels, num_shards) in enumerate(itertools.product(LABELS, SHARDS)):
        names = ("ignore_label",) if labels == "none" else ()
        chosen = {"labels": labels, "num_shards": num_shards, "strategy": STRATEGIES[number % 2]}
        cases.append(varied(LOSSES[number // 2 % 2], number, names, **chosen))
    return cases


def of_reductions():
    """Every reduction."""
    names = ("example_weights", "class_weights", "mask")
    return [
        varied(LOSSES[number % 2], number, names, reduction=reduction, num_shards=2 + number % 2)
        for number, reduction in enumerate(Reduction.all())
    ]


def compared(cases, cluster):
    """The Errors of cases against one process, and against the oracle."""
    against_one, against_oracle = Errors(), Errors()
    for case, (got, alone) in zip(cases, results(cases, cluster)):
        against_one.add(str(case), got, alone)
        exact = sharded_cases.of_oracle(case)
        if exact is not None:
            against_oracle.add(str(case), got, exact)
    return against_one, against_oracle


@pytest.mark.lengthy
@pytest.mark.both_ends
def test_shards_in_tasks_against_one_process_and_the_oracle(cluster):
    for errors in compared(EVERYDAY, cluster):
        errors.check(LIMIT)


@pytest.mark.exhaustive
@pytest.mark.parametrize("cases", [of_options, of_layouts, of_reductions])
def test_a_tenth_of_options_pairs_layouts_and_reductions(cases, cluster):
    """Tasks differ in no more than that; ``python -m tests.clusters`` runs all the cases.

    The one of all options together, which takes as long as all others, is not among them.
    """
    for errors in compared(cases()[::10], cluster):
        errors.check(LIMIT)


def test_a_wrong_result_is_found_out():
    right = (np.ones(3), {"logits": np.arange(4.0)}, {"logits": np.ones(2)})
    for kind, wrong in (
        ("value", (np.ones(3) * (1 + 1e-11), *right[1:])),
        ("gradient", (right[0], {"logits": np.arange(4.0) + 1e-11}, right[2])),
        ("product", (*right[:2], {"logits": np.ones(3)})),
        ("product", (*right[:2], {"logits": np.full(2, np.nan)})),
    ):
        errors = Errors()
        errors.add("right", right, right)
        errors.check(LIMIT)
        errors.add("wrong", wrong, right)
        errors.add("right", right, right)
        with pytest.raises(AssertionError, match=kind):
            errors.check(LIMIT)
