"""Bad inputs of the losses with options: which error, when, and that it names what is wrong.

The same bad values are refused when the graph is built, where they are constants or known shapes,
and in the run, where they are fed to placeholders of unknown shape.
"""

import collections
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.support.option_cases import FUNCTIONS
from tf1xent import nn

NAN, INF = float("nan"), float("inf")
LABELS = np.array([2, 0, 3])
SOFT_LABELS = np.eye(4)[LABELS]
LOGITS = np.random.RandomState(0).normal(size=(3, 4))
SPARSE, SOFT, PROBABILITIES = FUNCTIONS["sparse"], FUNCTIONS["soft"], FUNCTIONS["probabilities"][:1]
WITH_LOGITS = SPARSE + SOFT
EVERY = WITH_LOGITS + PROBABILITIES

NUMBERS = ("label_smoothing", "focal_gamma", "temperature", "softcap", "z_loss", "epsilon")

Bad = collections.namedtuple("Bad", ["functions", "argument", "value"])

BAD_VALUES = (
    [Bad(EVERY, "label_smoothing", value) for value in (-0.1, 1.0, 1.5, NAN)]
    + [Bad(EVERY, "focal_gamma", value) for value in (-0.5, NAN, INF)]
    + [Bad(WITH_LOGITS, "temperature", value) for value in (0.0, -1.0, NAN, INF)]
    + [Bad(WITH_LOGITS, "softcap", value) for value in (0.0, -1.0, NAN, INF)]
    + [Bad(WITH_LOGITS, "z_loss", value) for value in (NAN, INF)]
    + [Bad(PROBABILITIES, "epsilon", value) for value in (-1.0, NAN)]
    + [
        Bad(EVERY, "class_weights", np.array(value))
        for value in ([1.0, -1.0, 1.0, 1.0], [1.0, NAN, 1.0, 1.0])
    ]
)
BAD_SHAPES = (
    [Bad(EVERY, "weights", np.ones(shape)) for shape in ([2], [4], [0], [3, 1], [3, 4], [1, 3])]
    + [Bad(EVERY, "mask", np.ones(shape, bool)) for shape in ([2], [0], [3, 1], [3, 4], [1, 3])]
    + [Bad(EVERY, "class_weights", np.ones(shape)) for shape in ([3], [1], [5], [3, 4], [])]
    + [
        Bad(WITH_LOGITS, "class_mask", np.ones(shape, bool))
        for shape in ([3], [5], [2, 4], [3, 3], [3, 1, 4])
    ]
)


def _name(value):
    if isinstance(value, Bad):
        return f"{value.argument} {np.shape(value.value) or value.value}"
    return getattr(value, "__name__", str(value))


def _inputs(function):
    """Good labels and logits, or probabilities."""
    labels = LABELS if function in SPARSE else SOFT_LABELS
    return labels, 1.0 / (1.0 + LOGITS**2) if function in PROBABILITIES else LOGITS


def _call(function, **options):
    labels, logits = _inputs(function)
    second = "probabilities" if function in PROBABILITIES else "logits"
    arguments = {"labels": tf.constant(labels), second: tf.constant(logits)}
    return function(**dict(arguments, **options))


def _check_message(caught, function, argument):
    message = str(caught.value)
    # What TensorFlow's own checks say in the run has no quotes.
    in_the_run = isinstance(caught.value, tf.errors.InvalidArgumentError)
    assert re.search(rf"\b{argument}\b" if in_the_run else f"`{argument}`", message)
    assert function.__name__ in message


@pytest.mark.parametrize("bad", BAD_VALUES + BAD_SHAPES, ids=_name)
def test_bad_values_and_shapes_are_refused_when_the_graph_is_built(bad):
    is_number = isinstance(bad.value, float)  # as a tensor it is looked at in the run
    for function in bad.functions:
        for as_tensor in (False,) if is_number else (False, True):
            with tf.Graph().as_default():
                given = tf.constant(bad.value) if as_tensor else bad.value
                with pytest.raises(ValueError) as caught:
                    _call(function, **{bad.argument: given})
            _check_message(caught, function, bad.argument)


# Of functions that share their checks, which the test above runs through, one and that of
# probabilities for each argument.
RUN = sorted(
    {
        (function, bad.argument)
        for bad in BAD_VALUES + BAD_SHAPES
        for function in (WITH_LOGITS[len(bad.argument) % 4], PROBABILITIES[0])
        if function in bad.functions and bad.argument != "class_mask"
    },
    key=str,
)


@pytest.mark.parametrize("function, argument", RUN, ids=_name)
def test_bad_values_and_shapes_are_refused_in_the_run(function, argument):
    bad = [np.asarray(bad.value) for bad in BAD_VALUES + BAD_SHAPES if bad.argument == argument]
    with tf.Graph().as_default(), tf.Session() as session:
        fed = tf.placeholder(bad[0].dtype, [] if argument in NUMBERS else None)
        labels, logits = (tf.constant(x) for x in _inputs(function))
        loss = function(labels, logits, **{argument: fed})
        for fetched in (loss, tf.gradients(loss, logits)[0]):
            for value in bad:
                with pytest.raises(tf.errors.InvalidArgumentError) as caught:
                    session.run(fetched, {fed: value})
                _check_message(caught, function, argument)


@pytest.mark.parametrize("shape", [[3], [2, 4], [3, 3]])
@pytest.mark.parametrize("function", [SPARSE[0], SOFT[1]], ids=_name)
def test_a_class_mask_that_does_not_fit_is_refused_in_the_run(function, shape):
    labels, logits = _inputs(function)
    with tf.Graph().as_default(), tf.Session() as session:
        fed = tf.placeholder(tf.bool, [None] * len(shape))
        given = tf.placeholder_with_default(logits, [None, None])
        loss = function(tf.constant(labels), given, class_mask=fed)
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(loss, {fed: np.ones(shape, bool)})


@pytest.mark.parametrize("function", WITH_LOGITS, ids=_name)
def test_a_class_mask_that_leaves_no_class_in(function):
    for mask in ([False] * 4, np.zeros([3, 4], bool), np.zeros([1, 4], bool)):
        for given in (mask, tf.constant):
            with tf.Graph().as_default(), pytest.raises(ValueError) as caught:
                given = given(mask) if given is tf.constant else given
                _call(function, class_mask=given)
            _check_message(caught, function, "class_mask")


@pytest.mark.parametrize("function", SOFT, ids=_name)
def test_options_of_integer_labels_are_refused_for_soft_labels(function):
    for options in ({"ignore_label": -1}, {"ignore_label": 0}):
        with tf.Graph().as_default(), pytest.raises(ValueError, match="mask") as caught:
            _call(function, **options)
        _check_message(caught, function, "ignore_label")
    for policy in ("raise", "nan", "ignore", "other"):
        with tf.Graph().as_default(), pytest.raises(ValueError) as caught:
            _call(function, invalid_labels=policy)
        _check_message(caught, function, "invalid_labels")


@pytest.mark.parametrize("function", SPARSE, ids=_name)
def test_policies_and_ignored_labels_that_do_not_exist(function):
    for policy in ("zero", "", "Raise", 0, True):
        with tf.Graph().as_default(), pytest.raises(ValueError) as caught:
            _call(function, invalid_labels=policy)
        _check_message(caught, function, "invalid_labels")
    logits = LOGITS
    too_large = (
        (np.int32, 2**31),
        (np.int32, -(2**31) - 1),
        (np.int64, 2**63),
        (np.int32, [0, 2**31]),
    )
    for dtype, ignored in too_large:
        with tf.Graph().as_default(), pytest.raises(ValueError) as caught:
            function(LABELS.astype(dtype), logits, ignore_label=ignored)
        _check_message(caught, function, "ignore_label")
    no_integers = (0.5, "1", b"1", True, [0.5], ["1"], [1, None], np.array([1.5]), [True], object())
    for ignored in no_integers:
        with tf.Graph().as_default(), pytest.raises(TypeError) as caught:
            _call(function, ignore_label=ignored)
        _check_message(caught, function, "ignore_label")
    for ignored in ([[1]], np.array([[1]])):
        with tf.Graph().as_default(), pytest.raises(ValueError) as caught:
            _call(function, ignore_label=ignored)
        _check_message(caught, function, "ignore_label")


@pytest.mark.parametrize("function", SPARSE, ids=_name)
def test_tensors_that_are_no_labels_to_ignore(function):
    for dtype in (tf.float32, tf.bool, tf.string, tf.uint64):
        with tf.Graph().as_default(), pytest.raises(TypeError) as caught:
            _call(function, ignore_label=tf.placeholder(dtype, []))
        _check_message(caught, function, "ignore_label")
    with tf.Graph().as_default(), pytest.raises(ValueError) as caught:
        _call(function, ignore_label=tf.placeholder(tf.int32, [None, 1]))
    _check_message(caught, function, "ignore_label")
    with tf.Graph().as_default(), tf.Session() as session:
        fed = tf.placeholder(tf.int32)
        loss = _call(function, ignore_label=fed)
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            session.run(loss, {fed: [[1]]})
        _check_message(caught, function, "ignore_label")


@pytest.mark.parametrize("function", EVERY, ids=_name)
def test_dtypes(function):
    labels, logits = _inputs(function)
    name = "probabilities" if function in PROBABILITIES else "logits"
    with tf.Graph().as_default(), pytest.raises(TypeError) as caught:
        function(labels, logits.astype(np.int32))
    _check_message(caught, function, name)
    if function in SPARSE:
        for dtype in (np.float32, np.float64, np.bool_):
            with tf.Graph().as_default(), pytest.raises(TypeError) as caught:
                function(labels.astype(dtype), logits)
            _check_message(caught, function, "labels")


@pytest.mark.parametrize("function", EVERY, ids=_name)
def test_labels_that_do_not_fit(function):
    labels, logits = _inputs(function)
    bad = [labels[:2], labels[np.newaxis].repeat(2, axis=0)]
    if function in SPARSE:
        bad.append(np.zeros([3, 4], np.int64))  # one label per class is what the other takes
    for given in bad:
        with tf.Graph().as_default(), pytest.raises(ValueError) as caught:
            function(tf.constant(given), tf.constant(logits))
        _check_message(caught, function, "labels")
    with tf.Graph().as_default(), tf.Session() as session:
        fed = tf.placeholder(labels.dtype)
        loss = function(fed, tf.constant(logits))
        for given in bad[:2]:
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(loss, {fed: given})


@pytest.mark.parametrize("function", EVERY, ids=_name)
@pytest.mark.parametrize("axis", [2, -3])
def test_an_axis_that_does_not_exist(function, axis):
    with tf.Graph().as_default(), pytest.raises(ValueError) as caught:
        _call(function, axis=axis)
    _check_message(caught, function, "axis")


@pytest.mark.parametrize("function", SPARSE, ids=_name)
def test_labels_out_of_range_are_an_error_by_default_and_on_demand(function):
    mask = np.array([True, False, True])
    for policy in (None, "raise"):
        options = {"invalid_labels": policy, "label_smoothing": 0.1, "ignore_label": -100}
        options["class_weights"] = [1.0, 2.0, 3.0, 4.0]
        with tf.Graph().as_default(), tf.Session() as session:
            fed = tf.placeholder(tf.int64, [None])
            logits = tf.constant(LOGITS)
            loss = function(fed, logits, **options)
            masked = function(fed, logits, mask=mask, **options)
            gradient = tf.gradients(loss, logits)[0]
            for bad_label in (4, -1, 1000):
                labels = np.array([2, bad_label, 0])
                for fetched in (loss, gradient):
                    with pytest.raises(tf.errors.InvalidArgumentError, match="label") as caught:
                        session.run(fetched, {fed: labels})
                    assert str(bad_label) in str(caught.value)
                    if policy == "raise":
                        _check_message(caught, function, "labels")
                # Masks win over everything, and ignored labels are not looked at.
                assert session.run(masked, {fed: labels})[1] == 0.0
            assert session.run(loss, {fed: np.array([2, -100, 0])})[1] == 0.0


def test_both_names_of_a_kind_are_functions_of_their_own():
    names = [function.__name__ for function in EVERY]
    assert len(set(names)) == 5
    assert all(getattr(nn, name) in EVERY for name in names)
