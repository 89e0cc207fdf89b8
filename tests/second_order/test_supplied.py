"""Every supplied gradient: second and third derivatives against finite differences."""

import pytest

from tests.second_order import pooling_cases, resize_cases, smooth_cases
from tests.second_order.checking import case_id, check

CASES = [*resize_cases.CASES, *pooling_cases.CASES, *smooth_cases.CASES]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_derivatives(case):
    check(case)
