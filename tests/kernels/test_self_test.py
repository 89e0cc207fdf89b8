"""The test that every built library has to pass, on the library that is built here."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tf1xent import errors, kernels
from tf1xent._math import kernel_self_test as self_test
from tf1xent._math.dtypes import LOGITS_DTYPES

SHAPES = [(3, 1), (33, 10)]


@pytest.fixture(scope="module")
def compared():
    """Of each dtype and shape what the self-test compares: (dtype, arrays)."""
    try:
        library = kernels.library()
    except errors.KernelsError as error:
        pytest.skip(f"the kernels are not built here: {error}")
    return self_test.compare(library, SHAPES)


@pytest.mark.lengthy
def test_the_self_test_passes_what_is_right(compared):
    for dtype, each in compared:
        assert self_test.faults(each, dtype) == {}


@pytest.mark.parametrize("name", self_test.Results._fields)
def test_the_self_test_finds_what_is_wrong(compared, name):
    off = {tf.float32: 1e-3, tf.float64: 1e-11, tf.half: 1e-2, tf.bfloat16: 0.1}
    for dtype, each in compared:
        value = getattr(each.results, name)
        last = value.copy()
        last.flat[-1] *= 1 + off[dtype]
        wrongs = [last, np.where(value == value.max(), np.nan, value)]
        if each.arguments.logits.shape[1] == 1:
            wrongs = wrongs[1:]  # of one class most are 0
        for wrong in wrongs:
            changed = each._replace(results=each.results._replace(**{name: wrong}))
            assert list(self_test.faults(changed, dtype)) == [name]


class Broken:
    """The library, but for one op, whose results it changes."""

    def __init__(self, library, name, change):
        self._library, self._name, self._change = library, name, change

    def __getattr__(self, name):
        function = getattr(self._library, name)
        if name != self._name:
            return function
        return lambda **arguments: self._change(function(**arguments))


@pytest.mark.parametrize(
    "name", ["tf1xent_kernel_sparse_hessian_product", "tf1xent_kernel_label_gradient"]
)
def test_a_library_with_one_wrong_op_is_refused(library, monkeypatch, name):
    monkeypatch.setattr(self_test, "SHAPES", SHAPES[1:])
    found = self_test.check_values(Broken(library, name, lambda result: result * 1.5))
    assert len(found) == len(LOGITS_DTYPES)
    assert all(" [33, 10]: error up to " in line for line in found)


def test_labels_out_of_range_must_be_refused_or_nan(library):
    def lenient(results):
        return [tf.zeros_like(results[0]), results[1]]

    assert self_test.check_invalid_labels(library) == []
    found = self_test.check_invalid_labels(Broken(library, "tf1xent_kernel_sparse_loss", lenient))
    assert found == [
        "labels out of range are not refused",
        'labels out of range do not give NaN with invalid_labels="nan"',
    ]
