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


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_derivatives(case):
    check(case)
