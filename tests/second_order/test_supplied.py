"""Every supplied gradient: second and third derivatives against finite differences."""

import pytest

from tests.second_order import (
    cell_cases,
    convolution_cases,
    crop_cases,
    pooling_cases,
    removed_op_cases,
    resize_cases,
    sampling_cases,
    segment_cases,
    smooth_cases,
    sparse_cases,
)
from tests.second_order.checking import case_id, check

CASES = [
    *cell_cases.CASES,
    *convolution_cases.CASES,
    *crop_cases.CASES,
    *pooling_cases.CASES,
    *removed_op_cases.CASES,
    *resize_cases.CASES,
    *sampling_cases.CASES,
    *segment_cases.CASES,
    *smooth_cases.CASES,
    *sparse_cases.CASES,
]


# Others have their op with fewer steps.
LENGTHY = ("BlockLSTMGrad-3 steps", "LSTMBlockCellGrad-2 steps", "GRUBlockCellGrad-2 steps")


def marks(case):
    return [pytest.mark.lengthy] if case_id(case) in LENGTHY else []


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case_id(case), marks=marks(case)) for case in CASES]
)
def test_derivatives(case):
    check(case)
