"""Every planted difference is found, and none in equal pairs."""

import pytest

from tests.verification.planted import DIFFERENT, DIFFERENT_PRODUCTS, EQUAL
from tf1xent.verification import compare_functions


def name(pair):
    return " and ".join(function.__name__ for function in pair[:2])


@pytest.mark.parametrize(
    "dtype", ["float64", pytest.param("float32", marks=pytest.mark.exhaustive)]
)
@pytest.mark.parametrize("pair", EQUAL, ids=map(name, EQUAL))
def test_equal_pairs_are_equal(pair, dtype):
    before, after, options = pair
    report = compare_functions(before, after, dtypes=[dtype], **options)
    assert report.equal, report.to_text()
    assert len(report.findings) >= 20


@pytest.mark.parametrize("planted", DIFFERENT)
def test_planted_differences_are_found(planted):
    before, after, options = DIFFERENT[planted]
    report = compare_functions(before, after, **dict(dict(dtypes=["float64"]), **options))
    assert not report.equal, report.to_text()


@pytest.mark.parametrize("planted", DIFFERENT_PRODUCTS)
def test_differences_of_products_alone_are_found(planted):
    before, after, options = DIFFERENT_PRODUCTS[planted]
    report = compare_functions(before, after, dtypes=["float64"], **options)
    assert {f.quantity for f in report.findings if f.verdict == "different"} == {
        "product by logits"
    }
