"""A function in the place of TensorFlow's looks, refuses, dispatches and converts like it."""

import functools
import inspect
import pickle

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf
from tensorflow.python.ops import nn_ops
from tensorflow.python.util import tf_inspect

import tf1xent
from tests.oracle import reference
from tests.support.bindings import (
    CONFIDENT,
    CONFIDENT_LOSS,
    STOCK,
    assert_ours,
    confident_loss,
)
from tests.support.loss_graph import DENSE_V1, DENSE_V2, SPARSE

pytestmark = pytest.mark.usefixtures("all_restored")


# --- The functions' faces ---------------------------------------------------------------------


def _faces():
    """(name in nn_ops, TensorFlow's function, ours)."""
    with tf1xent.patched():
        return [(name, stock, getattr(nn_ops, name)) for name, stock in sorted(STOCK.items())]


def _full_signature(function):
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters]


def test_signatures_and_names_are_those_of_tensorflow():
    for name, stock, ours in _faces():
        assert _full_signature(ours) == _full_signature(stock), name
        for attribute in ("__name__", "__module__", "__doc__"):
            assert getattr(ours, attribute) == getattr(stock, attribute), (name, attribute)
        assert callable(ours) and inspect.isfunction(ours), name


def test_a_replaced_function_can_be_looked_into_like_tensorflows():
    for name, stock, ours in _faces():
        assert ours.__wrapped__ is stock, name
        assert inspect.unwrap(ours) is inspect.unwrap(stock), name
        assert ours.__qualname__ == stock.__qualname__, name
        assert inspect.signature(ours) == inspect.signature(stock), name
        assert tf_inspect.getfullargspec(ours) == tf_inspect.getfullargspec(stock), name
        assert inspect.getsourcefile(inspect.unwrap(ours)) == nn_ops.__file__, name


def test_pickles_name_the_function_and_find_what_is_in_place():
    stock = pickle.dumps(STOCK[SPARSE])
    with tf1xent.patched():
        ours = getattr(nn_ops, SPARSE)
        assert pickle.dumps(ours) == stock
        assert pickle.loads(stock) is ours
    assert pickle.loads(stock) is STOCK[SPARSE]


def test_dispatch_attributes_are_there():
    for name, stock, ours in _faces():
        for attribute in vars(stock):
            assert "dispatch" not in attribute or hasattr(ours, attribute), (name, attribute)


def test_export_names_are_those_of_tensorflow():
    """TensorFlow and its tools look up under which names a function is exported."""
    for name, stock, ours in _faces():
        for attribute in ("_tf_api_names", "_tf_api_names_v1"):
            assert getattr(ours, attribute, None) == getattr(stock, attribute, None), name


def _answer(function, *args, **kwargs):
    """What a call does: its static shape and dtype, or its error's type and message."""
    with tf.Graph().as_default():
        try:
            loss = function(*args, **kwargs)
        except Exception as error:  # whatever it is, ours has to be the same
            return type(error), str(error)
        return loss.dtype, loss.shape.as_list()


ROWS, ONE_HOT = [[1.0, 2.0], [0.5, 0.0]], [[1.0, 0.0], [0.0, 1.0]]
CALLS = [
    ("positional", lambda f, labels: _answer(f, labels, ROWS)),
    ("sentinel and named", lambda f, labels: _answer(f, None, labels, ROWS)),
    ("sentinel given", lambda f, labels: _answer(f, 1, labels=labels, logits=ROWS)),
    ("sentinel by name", lambda f, labels: _answer(f, _sentinel=None, labels=labels, logits=ROWS)),
    ("named", lambda f, labels: _answer(f, labels=labels, logits=ROWS)),
    ("named and name", lambda f, labels: _answer(f, labels=labels, logits=ROWS, name="xent")),
    ("nothing", lambda f, labels: _answer(f)),
    ("no logits", lambda f, labels: _answer(f, labels=labels)),
    ("no labels", lambda f, labels: _answer(f, logits=ROWS)),
    ("unknown argument", lambda f, labels: _answer(f, labels=labels, logits=ROWS, lables=1)),
    ("given twice", lambda f, labels: _answer(f, labels, ROWS, logits=ROWS)),
    ("too many", lambda f, labels: _answer(f, labels, ROWS, None, None, None, None, None)),
    ("dim", lambda f, labels: _answer(f, labels=labels, logits=ROWS, dim=1)),
    ("axis", lambda f, labels: _answer(f, labels=labels, logits=ROWS, axis=-1)),
    ("axis 0", lambda f, labels: _answer(f, labels=labels, logits=ROWS, axis=0)),
    ("dim and axis", lambda f, labels: _answer(f, labels=labels, logits=ROWS, dim=1, axis=1)),
    ("dim 0 and axis 0", lambda f, labels: _answer(f, labels=labels, logits=ROWS, dim=0, axis=0)),
]


@pytest.mark.parametrize("what, call", CALLS, ids=[what for what, _ in CALLS])
def test_calls_are_taken_or_refused_as_tensorflow_takes_or_refuses_them(what, call):
    for name, stock, ours in _faces():
        labels = [0, 1] if "sparse" in name else ONE_HOT
        want, got = call(stock, labels), call(ours, labels)
        assert got[0] == want[0], (name, want, got)
        if isinstance(want[1], str) and issubclass(want[0], TypeError):
            # Python's own words for a bad call name the function or not, by version.
            continue
        assert got[1] == want[1], (name, want, got)


def test_deprecated_dim_means_axis():
    logits = np.array([[1.0, 4.0], [2.0, 0.5]], np.float32)
    labels = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    with tf1xent.patched(), tf.Graph().as_default(), tf.Session() as session:
        for function in (DENSE_V1, DENSE_V2):
            losses = [
                getattr(tf.nn, function)(labels=labels, logits=logits, **{argument: 0})
                for argument in ("dim", "axis")
                if argument in inspect.signature(getattr(tf.nn, function)).parameters
                and not (function == DENSE_V1 and argument == "axis")
            ]
            want = reference.Reference(logits.T).dense_loss(labels.T).astype(np.float64)
            for loss in losses:
                np.testing.assert_allclose(session.run(loss), want, rtol=1e-6)


# --- Dispatch, autograph, eager ---------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_dispatch_for_a_third_partys_type(when):
    experimental = getattr(tensorflow, "experimental", None)
    if not hasattr(experimental, "dispatch_for_api"):
        pytest.skip("this TensorFlow has no tf.experimental.dispatch_for_api")

    class Masked(experimental.ExtensionType):
        __name__ = "tests.Masked." + when
        values: tensorflow.Tensor

    def theirs(labels, logits, name=None):
        return "theirs"

    def register():
        function = tensorflow.nn.sparse_softmax_cross_entropy_with_logits
        return experimental.dispatch_for_api(function, {"logits": Masked})(theirs)

    def call():
        return tensorflow.nn.sparse_softmax_cross_entropy_with_logits(
            labels=[0], logits=Masked(CONFIDENT)
        )

    if when == "before":
        register()
        assert call() == "theirs"
    with tf1xent.patched():
        if when == "after":
            register()
        assert call() == "theirs"
        assert_ours(tensorflow.nn.sparse_softmax_cross_entropy_with_logits)
    experimental.unregister_dispatch_for(theirs)


def _converting_function():
    """tf.function (2.x), or autograph's to_graph (1.x), of a function with a loop on a tensor."""

    def summed_losses(logits, labels):
        total = tf.constant(0.0)
        for _ in tf.range(tf.constant(2)):
            total += tf.reduce_sum(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            )
        return total

    if hasattr(tensorflow, "function"):
        return tensorflow.function(summed_losses)
    return tf.autograph.to_graph(summed_losses)


def test_inside_functions_that_autograph_converts(recwarn):
    if not hasattr(tensorflow, "function"):
        try:  # TF 1.13's autograph needs the gast of its time
            tf.autograph.to_graph(confident_loss)
        except Exception as error:
            pytest.skip(f"this TensorFlow's autograph converts no function here: {error}")
    with tf1xent.patched(), tf.Graph().as_default(), tf.Session() as session:
        loss = _converting_function()(tf.constant(CONFIDENT), tf.constant([0]))
        assert session.run(loss) == pytest.approx(2 * CONFIDENT_LOSS, rel=1e-5)
    assert not [w for w in recwarn if "autograph" in str(w.message).lower()]


@pytest.mark.parametrize("form", ["itself", "partial", "wrapper"])
def test_what_converts_functions_does_not_unwrap_ours(form):
    """`__wrapped__` leads to TensorFlow's function, which must not be what is traced."""
    if not hasattr(tensorflow, "function"):
        pytest.skip("this TensorFlow has no tf.function")
    with tf1xent.patched(), tf.Graph().as_default(), tf.Session() as session:
        ours = tf.nn.sparse_softmax_cross_entropy_with_logits

        @functools.wraps(ours)
        def wrapper(*args, **kwargs):
            return ours(*args, **kwargs)

        function = {"itself": ours, "partial": functools.partial(ours), "wrapper": wrapper}[form]
        arguments = {"labels": tf.constant([0]), "logits": tf.constant(CONFIDENT)}
        losses = [tensorflow.function(function)(**arguments)]
        if form != "partial":
            losses.append(tf.autograph.to_graph(function)(**arguments))
        for loss in session.run(losses):
            np.testing.assert_allclose(loss, [CONFIDENT_LOSS], rtol=1e-5)


def test_our_functions_are_not_converted_by_autograph(caplog):
    if not hasattr(tensorflow, "function"):
        pytest.skip("this TensorFlow has no tf.function")
    with tf1xent.patched(), tf.Graph().as_default():
        converted = tf.autograph.to_graph(
            lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=CONFIDENT)
        )
        converted()
    assert "could not be transformed" not in caplog.text


def test_eager_calls():
    if not tf.executing_eagerly():
        pytest.skip("this TensorFlow has no eager execution by default")
    with tf1xent.patched():
        loss = tensorflow.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=CONFIDENT)
        assert float(loss.numpy()[0]) == pytest.approx(CONFIDENT_LOSS, rel=1e-5)


def test_a_function_traced_before_the_patch_keeps_its_ops():
    """What is traced stays traced, as TensorFlow has it; what is traced anew is ours."""
    if not tf.executing_eagerly():
        pytest.skip("this TensorFlow has no eager execution by default")

    @tensorflow.function
    def loss(logits):
        return tensorflow.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=logits)

    assert float(loss(tf.constant(CONFIDENT))[0]) == 0.0
    with tf1xent.patched():
        assert float(loss(tf.constant(CONFIDENT))[0]) == 0.0
        wide = np.concatenate([CONFIDENT, CONFIDENT - 60.0], axis=1)
        assert float(loss(tf.constant(wide))[0]) > 0.0
