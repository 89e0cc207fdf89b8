"""What the metrics refuse, when the graph is built and at run time; names, types, eager calls."""

import ast
import inspect

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.metrics.calls import NAMES, call, run, values
from tf1xent import metrics
from tf1xent.metrics import definition

MATRIX = np.zeros([2, 3], np.float32)

# arguments, error, words of its message; of every metric, when the graph is built
REFUSED = [
    ({"labels": [0.0, 1.0]}, TypeError, "`labels` must be int32 or int64"),
    ({"labels": np.array([0, 1], np.uint8)}, TypeError, "`labels` must be int32 or int64"),
    ({"labels": ["a", "b"]}, TypeError, "`labels` must be class numbers"),
    ({"labels": [0, 1, 2]}, ValueError, "`labels` must have the shape"),
    ({"labels": 0}, ValueError, "`labels` must have the shape"),
    ({"labels": [[1.0, 0.0]]}, ValueError, "`labels` must have the shape"),
    ({"logits": np.zeros([2, 3], np.int32)}, TypeError, "`logits` must be half"),
    ({"logits": 1.0}, ValueError, "`axis` must be"),
    ({"axis": 2}, ValueError, "`axis` must be"),
    ({"mask": [True, False, True]}, ValueError, "`mask` must have the shape"),
    ({"mask": True}, ValueError, "`mask` must have the rank"),
    ({"mask": [[True, False]]}, ValueError, "`mask` must have the shape"),
    ({"mask": ["a", "b"]}, TypeError, "`mask` must be bool"),
    ({"weights": [1.0, 2.0, 3.0]}, ValueError, "`weights` must have the shape"),
    ({"weights": [[1.0], [2.0]]}, ValueError, "`weights` must have the shape"),
    ({"ignore_label": 2**31}, ValueError, "`ignore_label` must fit"),
    ({"ignore_label": 1.0}, TypeError, "`ignore_label` must be an integer"),
    ({"labels": np.eye(3)[:2], "ignore_label": 0}, ValueError, "`ignore_label` must be None"),
]


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_refused_when_the_graph_is_built(name):
    with tf.Graph().as_default():
        for arguments, error, words in REFUSED:
            arguments = dict({"labels": np.array([0, 1], np.int32), "logits": MATRIX}, **arguments)
            with pytest.raises(error, match=f"^{name}: {words}"):
                call(name, **arguments)


@pytest.mark.parametrize("value", [0, -1, 1.0, None, True, "2"])
def test_bad_k_and_num_bins(value):
    with tf.Graph().as_default():
        with pytest.raises(ValueError, match="^top_k_accuracy: `k` must be a Python integer"):
            metrics.top_k_accuracy([0, 1], MATRIX, value)
        with pytest.raises(ValueError, match="^expected_calibration_error: `num_bins` must be"):
            metrics.expected_calibration_error([0, 1], MATRIX, num_bins=value)


@pytest.mark.parametrize(
    "arguments, options, words",
    [
        (([0, 1], MATRIX, [True, True]), {}, "too many positional arguments"),
        (([0, 1],), {}, "missing a required argument: 'logits'"),
        (([0, 1], MATRIX), {"masks": None}, "'masks'"),
    ],
)
def test_arguments_that_do_not_fit_the_signature(arguments, options, words):
    with pytest.raises(TypeError, match=rf"^accuracy\(\) .*{words}"):
        metrics.accuracy(*arguments, **options)


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_that_only_the_run_can_tell(name):
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.placeholder(tf.float32, None)
        labels = tf.placeholder(tf.int32, None)
        soft = tf.placeholder(tf.float32, None)
        mask = tf.placeholder(tf.bool, None)
        weights = tf.placeholder(tf.float32, None)
        sparse = call(name, labels, logits, mask=mask, weights=weights)
        dense = call(name, soft, logits)
        good = {logits: MATRIX, labels: [0, 1], mask: [True, True], weights: [1.0, 1.0]}
        session.run(sparse, good)
        session.run(dense, {logits: MATRIX, soft: MATRIX})
        bad = [
            {labels: [0, 1, 2]},
            {labels: [[0, 1]]},
            {labels: 0},
            {labels: [2], logits: np.zeros([2, 2, 3])},
            {mask: [True, False, True]},
            {mask: [[True], [False]]},
            {weights: [1.0, 1.0, 1.0]},
            {weights: [[1.0], [1.0]]},
        ]
        for changes in bad:
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(sparse, {**good, **changes})
        for value in (MATRIX[:1], MATRIX[0], MATRIX[:, :2], MATRIX[np.newaxis]):
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(dense, {logits: MATRIX, soft: value})


def test_a_label_that_is_no_class_fails_on_a_cpu():
    for name in "negative_log_likelihood", "perplexity", "brier_score":
        with pytest.raises(tf.errors.InvalidArgumentError):
            run(lambda name=name: call(name, [0, 3], MATRIX))


def test_values_in_eager_execution():
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 5.0], [1.0, 1.0, 1.5]], np.float32)
    labels = np.array([0, 1, -1], np.int32)

    def eagerly():
        assert tf.executing_eagerly()
        found = [call(name, labels, logits, ignore_label=-1) for name in NAMES]
        return [tf.cast(value, tf.float64) for value in found]

    # The body of a py_function runs eagerly, on every version and without a switch.
    got = run(lambda: tf.py_function(eagerly, [], [tf.float64] * len(NAMES)))
    want = values(labels, logits, ignore_label=-1)
    assert got == [want[name] for name in NAMES]


def test_names():
    with tf.Graph().as_default() as graph:
        for name in NAMES:
            call(name, [0, 1], MATRIX)
            call(name, [0, 1], MATRIX, name="mine_" + name)
        scopes = {operation.name.split("/")[0] for operation in graph.get_operations()}
    assert scopes >= set(NAMES) | {"mine_" + name for name in NAMES}


def test_type_checkers_see_the_options_that_there_are():
    tree = ast.parse(inspect.getsource(definition))
    declared = {
        node.name: {field.target.id for field in node.body}
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name.endswith("Options")
    }
    plain, streaming = (
        {
            parameter.name
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY
        }
        for function in (metrics.accuracy, metrics.streaming_accuracy)
    )
    assert declared["PlainOptions"] == plain
    assert declared["PlainOptions"] | declared["StreamingOptions"] == streaming
