"""Primitives: functions with a gradient of their own, which stands below them."""

import pytest
import tensorflow.compat.v1 as tf

from tests import ROOT
from tf1xent import _tf


@_tf.primitive("Tf1xentTestWithout")
def without(values):
    """Has no gradient."""
    return 2 * values, ()


@_tf.primitive("Tf1xentTestTripled")
def tripled(values, *, offset=0.0):
    """Says that its derivative is 5 times its residual, 3."""
    return 3 * values + offset, (tf.constant(3.0),)


@tripled.gradient
def gradient_of_tripled(cotangent, inputs, residuals):
    """Not what TensorFlow would derive."""
    return [5 * cotangent * residuals[0] + 0 * inputs[0]]


@_tf.primitive_list("Tf1xentTestPair", num_values=2, num_inputs=1)
def pair(*inputs):
    """A value and its square."""
    return [inputs[0], inputs[0] ** 2], ()


@pair.gradient
def _(values, cotangents, inputs, residuals):
    del inputs, residuals
    return [sum(values[0] * cotangent for cotangent in cotangents if cotangent is not None)]


def test_without_a_gradient_the_first_call_is_refused():
    with tf.Graph().as_default(), pytest.raises(NotImplementedError) as caught:
        without(tf.constant(1.0))
    assert str(caught.value) == (
        f"{__name__}.without: the primitive Tf1xentTestWithout must have a gradient, got none. "
        "Register one with `@without.gradient`."
    )


def test_the_gradient_is_the_one_that_is_given():
    with tf.Graph().as_default(), tf.Session() as session:
        values = tf.constant(7.0)
        result = tripled(values, offset=1.0, name="carrier")
        assert result.op.name == "carrier"
        (gradient,) = tf.gradients(result, values, grad_ys=tf.constant(2.0))
        assert session.run([result, gradient]) == [22.0, 30.0]


def test_of_several_values_the_gradient_gets_values_and_cotangents():
    with tf.Graph().as_default(), tf.Session() as session:
        values = tf.constant(3.0)
        cotangents = [tf.constant(10.0), tf.constant(1.0)]
        (gradient,) = tf.gradients(pair(values), values, grad_ys=cotangents)
        assert session.run(gradient) == 33.0


def test_a_primitive_keeps_the_name_and_the_docstring_of_its_function():
    assert (tripled.__name__, tripled.__module__) == ("tripled", __name__)
    assert tripled.__doc__ == "Says that its derivative is 5 times its residual, 3."
    assert tripled.gradient_name == "Tf1xentTestTripled"
    # The decorator leaves the gradient a plain function, to be called by itself.
    assert gradient_of_tripled(1.0, (0.0,), (3.0,)) == [15.0]


def test_every_primitive_of_the_package_has_a_gradient():
    """Read in the sources, so that one in a branch that no test reaches is seen too."""
    for path in sorted((ROOT / "tf1xent").rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if line.strip().startswith("@_tf.primitive"):
                name = lines[number + 1].split("def ")[1].split("(")[0]
                registered = [other.strip() for other in lines[number:]].count(f"@{name}.gradient")
                assert registered == 1, f"{path.name}: {name}"
