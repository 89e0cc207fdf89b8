"""Options given as tensors and variables: kept whatever their value, and differentiated; and
numbers, which are checked as what they are in the computing dtype."""

import mpmath
import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf

from tests.oracle.option_reference import (
    OptionReference,
    loss_of_logits,
    loss_of_probabilities,
)
from tests.support.option_cases import (
    CLASS_WEIGHTS,
    FUNCTIONS,
    LABELS,
    LOGITS,
    NUM_CLASSES,
    PROBABILITIES,
    SOFT_LABELS,
    WEIGHTS,
    placeholder,
)
from tf1xent import losses
from tf1xent._loss import option_checks
from tf1xent._loss.options import TABLE

NEUTRAL = {"label_smoothing": 0.0, "z_loss": 0.0, "temperature": 1.0, "focal_gamma": 0.0}
# Values that change nothing, and others; all are exact in float32.
VALUES = [(name, value) for name, value in NEUTRAL.items()]
VALUES += [("label_smoothing", 0.125), ("z_loss", 0.25), ("temperature", 2.0)]
VALUES += [("focal_gamma", 1.0), ("focal_gamma", 2.5), ("softcap", 6.0)]
OF_PROBABILITIES = ("label_smoothing", "focal_gamma", "epsilon")
OF_LINEAR = ("label_smoothing", "z_loss")
KINDS = ("sparse", "soft", "probabilities", "linear")
NUMBERS = [option.name for option in TABLE if option.requirement and not option.by_class]


def cases(kind):
    """Which options with which values the function of a kind takes."""
    if kind == "probabilities":
        # Smaller probabilities count as epsilon: one of 0.03125 is there.
        return [case for case in VALUES if case[0] in OF_PROBABILITIES] + [("epsilon", 0.046875)]
    return [case for case in VALUES if kind != "linear" or case[0] in OF_LINEAR]


def loss(kind, dtype="float64", **options):
    """The losses of the batch of that kind."""
    if kind == "sparse":
        return FUNCTIONS["sparse"][1](tf.constant(LABELS), tf.constant(LOGITS, dtype), **options)
    if kind == "soft":
        labels = tf.constant(SOFT_LABELS, dtype)
        return FUNCTIONS["soft"][1](labels, tf.constant(LOGITS, dtype), **options)
    if kind == "probabilities":
        labels = tf.constant(SOFT_LABELS, dtype)
        given = tf.constant(PROBABILITIES, dtype)
        return FUNCTIONS["probabilities"][0](labels, given, **options)
    return losses.linear_softmax_cross_entropy(
        tf.constant(LABELS),
        tf.constant(LOGITS, dtype),
        tf.eye(NUM_CLASSES, dtype=dtype),
        reduction="none",
        chunk_size=3,
        **options,
    )


def slope(kind, name, value):
    """The derivative of the sum of the losses in one option, by a difference of 1e-30."""
    formula = loss_of_probabilities if kind == "probabilities" else loss_of_logits
    rows = PROBABILITIES if kind == "probabilities" else LOGITS
    labels = SOFT_LABELS if kind in ("soft", "probabilities") else np.eye(NUM_CLASSES)[LABELS]
    with mpmath.workdps(80):
        step, ones, total = mpmath.mpf(10) ** -30, [mpmath.mpf(1)] * NUM_CLASSES, []
        for moved in (mpmath.mpf(0), step):
            total.append(mpmath.mpf(0))
            for row, label in zip(rows, labels):
                exact = [[mpmath.mpf(float(x)) for x in xs] for xs in (row, label)]
                arguments = exact + [ones, mpmath.mpf(1)]
                total[-1] += formula(*arguments, **{name: mpmath.mpf(value) + moved})
        return float((total[1] - total[0]) / step)


HOLDERS = {
    "constant": tf.constant,
    "computed": lambda value, dtype: tf.exp(tf.log(tf.constant(value + 1, dtype))) - 1,
    "placeholder": lambda value, dtype: placeholder(np.array(value, dtype.as_numpy_dtype)),
    "reference variable": lambda value, dtype: tf.Variable(value, dtype=dtype, use_resource=False),
    "resource variable": lambda value, dtype: tf.Variable(value, dtype=dtype, use_resource=True),
    # On TF 2.x that is no instance of tf.compat.v1.Variable.
    "variable": lambda value, dtype: tensorflow.Variable(value, dtype=dtype),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_options(kind, holder):
    with tf.Graph().as_default(), tf.Session() as session:
        gradients = []
        for name, value in cases(kind):
            held = HOLDERS[holder](value, tf.float64)
            gradients.append(tf.gradients(loss(kind, **{name: held}), held)[0])
        assert None not in gradients
        session.run(tf.global_variables_initializer())
        for (name, value), gradient in zip(cases(kind), session.run(gradients)):
            want = slope(kind, name, value)
            np.testing.assert_allclose(gradient, want, rtol=1e-9, err_msg=f"{name}={value}")


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_eager_variables(kind):
    found = []

    def eagerly():
        for name, value in cases(kind):
            variable = tensorflow.Variable(value, dtype=tf.float64)
            with tf.GradientTape(persistent=True) as tape:
                tensor = tf.identity(variable)
                by_variable = loss(kind, **{name: variable})
                by_tensor = loss(kind, **{name: tensor})
            found.append([tape.gradient(x, variable).numpy() for x in (by_variable, by_tensor)])
        return 0.0

    # The body of a py_function runs eagerly, on every version and without a switch.
    with tf.Graph().as_default(), tf.Session() as session:
        session.run(tf.py_function(eagerly, [], tf.float32))
    wanted = [[slope(kind, name, value)] * 2 for name, value in cases(kind)]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


@pytest.mark.skipif(not hasattr(tf, "function"), reason="TF 1.13 has no tf.function")
@pytest.mark.parametrize("kind", ["sparse", "probabilities"])
def test_gradients_in_variables_of_functions(kind):
    with tf.Graph().as_default(), tf.Session() as session:
        gradients = []
        for name, value in cases(kind):
            variable = HOLDERS["variable"](value, tf.float64)
            function = tf.function(lambda: loss(kind, **{name: variable}))  # noqa: B023
            gradients.append(tf.gradients(function(), variable)[0])
        session.run(tf.global_variables_initializer())
        for (name, value), gradient in zip(cases(kind), session.run(gradients)):
            want = slope(kind, name, value)
            np.testing.assert_allclose(gradient, want, rtol=1e-9, err_msg=f"{name}={value}")


@pytest.mark.parametrize("holder", [name for name in HOLDERS if name.endswith("variable")])
def test_weights_and_masks_as_variables(holder):
    mask, class_mask = np.arange(6) != 2, np.array([True, False, True, True])
    labels = np.where(LABELS == 1, 0, LABELS)
    for class_weights in (CLASS_WEIGHTS, np.ones(NUM_CLASSES)):
        for weights in (WEIGHTS, np.ones(6), np.float64(1.0)):
            with tf.Graph().as_default(), tf.Session() as session:
                held = {
                    "weights": HOLDERS[holder](weights, tf.float64),
                    "class_weights": HOLDERS[holder](class_weights, tf.float64),
                }
                masks = {
                    "mask": HOLDERS[holder](mask, tf.bool),
                    "class_mask": HOLDERS[holder](class_mask, tf.bool),
                }
                function = FUNCTIONS["sparse"][0]
                losses_of_all = function(labels, LOGITS, **dict(held, **masks))
                found = [
                    tf.convert_to_tensor(gradient)
                    for gradient in tf.gradients(losses_of_all, list(held.values()))
                ]
                session.run(tf.global_variables_initializer())
                got, in_weights, in_class_weights = session.run([losses_of_all] + found)
            reference = OptionReference(
                labels,
                LOGITS,
                weights=weights,
                class_weights=class_weights,
                mask=mask,
                class_mask=class_mask,
            )
            zeros = {name: np.zeros(x.shape) for name, x in reference.arguments.items()}
            want = reference.derivatives(zeros, np.ones(6))[0]
            np.testing.assert_allclose(got, reference.loss(), rtol=1e-12)
            np.testing.assert_allclose(in_weights, want["weights"], rtol=1e-12)
            np.testing.assert_allclose(in_class_weights, want["class_weights"], rtol=1e-12)


@pytest.mark.parametrize("dtype", [pytest.param("int32", marks=pytest.mark.lengthy), "int64"])
def test_several_labels_to_ignore(dtype):
    """Given as a list, an array and a tensor, also one that only the run knows, of any shape."""
    labels = np.array([2, -1, 255, 1, 2**31 - 1, 0]).astype(dtype)
    several = [(), [-1], [255, -1, 2**31 - 1], [0, 1, 2, -1, 255, 2**31 - 1]]
    options = {"invalid_labels": "ignore", "label_smoothing": 0.125, "z_loss": 0.25}
    with tf.Graph().as_default(), tf.Session() as session:
        fed, logits = tf.placeholder(dtype, [None]), tf.constant(LOGITS)
        by_run = [tf.placeholder("int64", shape) for shape in (None, [None])] + [
            tf.placeholder("int32", shape) for shape in (None, [None])
        ]
        function = FUNCTIONS["sparse"][0]
        of_tensors = [function(fed, logits, ignore_label=given, **options) for given in by_run]
        for ignored in several:
            of_known = [
                function(fed, logits, ignore_label=given, **options)
                for given in (ignored, tuple(ignored), np.array(ignored, dtype))
            ]
            feed = dict([(fed, labels)] + [(tensor, ignored) for tensor in by_run])
            got = session.run(of_known + of_tensors, feed)
            want = OptionReference(labels, LOGITS, ignore_label=ignored, **options).loss()
            for values in got:
                np.testing.assert_allclose(values, want, rtol=1e-12)
        scalar = tf.placeholder("int64")
        loss_of_all = function(fed, logits, ignore_label=scalar, **options)
        # Equal to a label only modulo 2^32.
        got = session.run([loss_of_all], {fed: labels, scalar: 2**32 + 2})[0]
        want = OptionReference(labels, LOGITS, **options).loss()
        np.testing.assert_allclose(got, want, rtol=1e-12)


# --- Numbers in the computing dtype -------------------------------------------------------------

# In range, but not once they are float32: too small (TensorFlow computes with less than the
# smallest normal number as 0), too large, or rounded to 1. float64 has them all.
LOST = [
    ("sparse", "temperature", 1e-46, "0.0"),
    ("sparse", "temperature", 1e-40, "0.0"),
    ("soft", "softcap", 1e-46, "0.0"),
    ("sparse", "softcap", 1e39, "inf"),
    ("soft", "temperature", 1e39, "inf"),
    ("sparse", "z_loss", 1e39, "inf"),
    ("linear", "z_loss", 1e39, "inf"),
    ("soft", "focal_gamma", 1e39, "inf"),
    ("linear", "label_smoothing", 1 - 1e-9, "1.0"),
    ("probabilities", "label_smoothing", 1 - 1e-9, "1.0"),
    ("probabilities", "epsilon", 1e-46, "0.0"),
    ("probabilities", "epsilon", 1e-40, "0.0"),
    ("probabilities", "epsilon", 1 - 1e-9, "1.0"),
]


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind, name, value, rounded", LOST)
def test_numbers_that_the_computing_dtype_does_not_have(kind, name, value, rounded):
    with tf.Graph().as_default(), tf.Session() as session:
        for given in (value, np.float64(value), np.array(value)):
            with pytest.raises(ValueError, match=f"`{name}` .*, which is {rounded} in float32"):
                loss(kind, "float32", **{name: given})
        loss(kind, "float64", **{name: value})
        with pytest.raises(ValueError, match=f"`{name}` .*, which is {rounded} in float32"):
            loss(kind, "float32", **{name: tf.constant(value, tf.float64)})
        fed = tf.placeholder(tf.float64, [])
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"`?{name}`? must be"):
            session.run(loss(kind, "float32", **{name: fed}), {fed: value})


def test_numbers_that_the_computing_dtype_rounds_to_neutral_ones():
    with tf.Graph().as_default():
        for name, value in NEUTRAL.items():
            assert option_checks.number("f", name, value + 1e-46, tf.float32) is None
            assert option_checks.number("f", name, np.array(value), tf.float32) is None
            assert option_checks.number("f", name, tf.constant(value), tf.float32) is not None


def test_what_is_no_number():
    with tf.Graph().as_default():
        for name in NUMBERS:
            for value in ("2", b"2", object(), {}, 1j, tf.constant("2"), tf.constant(True)):
                with pytest.raises(TypeError, match=f"^f: `{name}` must be a number"):
                    option_checks.number("f", name, value, tf.float32)
            for value in ([0.5], (0.5,), np.array([0.5]), tf.constant([0.5])):
                with pytest.raises(ValueError, match=f"^f: `{name}` must be a number"):
                    option_checks.number("f", name, value, tf.float32)


def test_tensors_of_unknown_rank():
    with tf.Graph().as_default(), tf.Session() as session:
        for name in NUMBERS:
            fed = tf.placeholder(tf.float32)
            number = option_checks.number("f", name, fed, tf.float32)
            assert number.shape.as_list() == []
            assert session.run(number, {fed: 0.5}) == 0.5
            with pytest.raises(tf.errors.InvalidArgumentError, match=name):
                session.run(number, {fed: [0.5]})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_op_of_a_check_makes_a_number_that_is_not_finite(dtype):
    with tf.Graph().as_default(), tf.Session() as session:
        fed = {name: tf.placeholder(dtype, []) for name in NUMBERS}
        found = [
            option_checks.number("f", name, given, tf.as_dtype(dtype))
            for name, given in fed.items()
        ]
        # tf.add_check_numerics_ops takes no graph with the branches that 1.x has in assertions.
        operations = tf.get_default_graph().get_operations()
        found += [
            tensor
            for operation in operations
            for tensor in operation.outputs
            if operation._get_control_flow_context() is None and tensor.dtype.is_floating
        ]
        limits = np.finfo(dtype)
        for values in (
            dict.fromkeys(fed, 0.5),
            dict.fromkeys(fed, limits.tiny),
            dict(dict.fromkeys(fed, limits.max), label_smoothing=0.0, epsilon=0.5),
        ):
            got = session.run(found, {fed[name]: value for name, value in values.items()})
            assert np.isfinite(got).all()
