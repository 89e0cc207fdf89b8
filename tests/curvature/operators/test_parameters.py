"""The map between variables and the flat vector."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tf1xent.curvature.operators.parameters import Parameters


@pytest.fixture(scope="module")
def variables():
    with tf.Graph().as_default():
        made = {}
        with tf.variable_scope("net"):
            with tf.variable_scope("dense"):
                made["kernel"] = tf.get_variable("kernel", [2, 3])
                made["bias"] = tf.get_variable("bias", [3], tf.float64, use_resource=True)
            made["parts"] = tf.get_variable(
                "rows/table", [5, 2], partitioner=tf.fixed_size_partitioner(2)
            )
        made["scale"] = tf.get_variable("scale", [], use_resource=False)
        made["tensors"] = tf.split(made["kernel"], 3, axis=1, name="split")
        made["unknown"] = tf.placeholder(tf.float32, [None, 2], "unknown")
        made["integer"] = tf.get_variable("step", [], tf.int64, tf.zeros_initializer())
        made["complex"] = tf.get_variable("wave", [2], tf.complex64, tf.zeros_initializer())
        made["empty"] = tf.get_variable("empty", [0, 4])
        yield made


def every(variables):
    return [variables[name] for name in ("scale", "kernel", "parts", "empty", "bias")]


def test_the_order_is_the_one_given_and_parts_count_one_by_one(variables):
    parameters = Parameters(every(variables))
    assert parameters.names == [
        "scale",
        "net/dense/kernel",
        "net/rows/table/part_0",
        "net/rows/table/part_1",
        "empty",
        "net/dense/bias",
    ]
    assert parameters.shapes == [(), (2, 3), (3, 2), (2, 2), (0, 4), (3,)]
    assert parameters.sizes == [1, 6, 6, 4, 0, 3]
    assert parameters.size == 20
    assert parameters.slices["net/dense/kernel"] == slice(1, 7)
    assert list(parameters.slices) == parameters.names


def test_there_and_back(variables):
    parameters = Parameters(every(variables))
    vector = np.arange(20.0)
    arrays = parameters.unflatten(vector)
    assert [array.shape for array in arrays] == parameters.shapes
    assert [array.dtype.name for array in arrays] == ["float32"] * 5 + ["float64"]
    np.testing.assert_array_equal(arrays[1], [[1, 2, 3], [4, 5, 6]])  # C order
    back = parameters.flatten(arrays)
    assert back.dtype == np.float64
    np.testing.assert_array_equal(back, vector)


def test_layers_are_name_scopes(variables):
    assert Parameters(every(variables)).layers() == {
        "scale": ["scale"],
        "net/dense": ["net/dense/kernel", "net/dense/bias"],
        "net/rows": ["net/rows/table/part_0", "net/rows/table/part_1"],
        "empty": ["empty"],
    }


def test_outputs_of_one_op_have_names_of_their_own(variables):
    parameters = Parameters(variables["tensors"])
    assert parameters.names == ["split", "split:1", "split:2"]
    assert len(parameters.slices) == 3


@pytest.mark.parametrize(
    "selection, names",
    [
        ("net/dense", ["net/dense/kernel", "net/dense/bias"]),
        ("net/dense/bias", ["net/dense/bias"]),
        ("net/dense/bias:0", ["net/dense/bias"]),
        (["net/dense/bias", "scale"], ["scale", "net/dense/bias"]),
        ("parts", ["net/rows/table/part_0", "net/rows/table/part_1"]),
        (["kernel", "scale"], ["scale", "net/dense/kernel"]),
    ],
)
def test_select_keeps_the_order(variables, selection, names):
    given = selection if isinstance(selection, list) else [selection]
    given = [variables.get(item, item) if item != "scale" else item for item in given]
    found = Parameters(every(variables)).select(given if len(given) > 1 else given[0])
    assert Parameters(found).names == names


def refused(error, match, call, *args):
    with pytest.raises(error, match=match) as caught:
        call(*args)
    assert str(caught.value).startswith("Parameters")


@pytest.mark.parametrize(
    "name, error, match",
    [
        (
            "unknown",
            ValueError,
            "static shapes, got unknown of shape",
        ),
        ("integer", TypeError, "must be float, got step of int64"),
        ("complex", TypeError, "must be float, got wave of complex64"),
    ],
)
def test_what_has_no_flat_real_part_is_refused(variables, name, error, match):
    refused(error, match, Parameters, [variables["kernel"], variables[name]])


def test_bad_arguments(variables):
    kernel = variables["kernel"]
    refused(ValueError, "got none", Parameters, [])
    refused(ValueError, "got net/dense/kernel more than once", Parameters, [kernel, kernel])
    refused(TypeError, "tensors of a graph, got ndarray", Parameters, [np.zeros(3)])
    refused(TypeError, "tensors of a graph, got str", Parameters, "net/dense/kernel")
    parameters = Parameters([kernel, variables["bias"]])
    refused(ValueError, r"shape \(9,\), got \(8,\)", parameters.unflatten, np.zeros(8))
    refused(ValueError, r"shape \(9,\), got \(9, 1\)", parameters.unflatten, np.zeros([9, 1]))
    refused(TypeError, "real, got dtype complex128", parameters.unflatten, np.zeros(9) * 1j)
    refused(ValueError, "each of the 2 variables, got 1", parameters.flatten, [np.zeros([2, 3])])
    swapped = [np.zeros([3]), np.zeros([2, 3])]
    refused(
        ValueError, r"net/dense/kernel must have the shape \(2, 3\)", parameters.flatten, swapped
    )
    refused(ValueError, "got 'dense'.*layers net/dense", parameters.select, "dense")
    refused(ValueError, "got 'scale'", parameters.select, variables["scale"])
    refused(ValueError, "got none", parameters.select, [])
