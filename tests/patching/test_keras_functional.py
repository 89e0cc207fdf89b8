"""Our functions on symbolic tensors of functional Keras models: one layer, as TensorFlow's is."""

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf
from tensorflow.python.util import dispatch

import tf1xent
from tests.oracle import reference

LOGITS = np.array([[40.0, 0.0, 1.0], [1.0, 2.0, 0.0]], np.float32)
LABELS = np.array([0, 1], np.int32)
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]
SPARSE, DENSE = "sparse_softmax_cross_entropy_with_logits", "softmax_cross_entropy_with_logits"


def _takes_whole():
    """Whether Keras makes layers of functions on symbolic tensors by dispatch on their types."""
    if not getattr(dispatch, "_GLOBAL_DISPATCHERS", None):
        return False
    try:
        tensorflow.nn.relu(tensorflow.keras.Input((3,)))
    except (TypeError, ValueError):  # Keras 3 has functions of its own and refuses TensorFlow's
        return False
    return True


pytestmark = pytest.mark.skipif(
    not _takes_whole(), reason="this TensorFlow's Keras makes no layers of functions by dispatch"
)


@pytest.fixture(autouse=True)
def unpatched():
    yield
    tf1xent.unpatch()


# By name: the function as a program finds it, and whether labels are integers.
TENSORFLOWS = {
    "tf.nn sparse": (lambda: getattr(tensorflow.nn, SPARSE), True),
    "tf.nn dense": (lambda: getattr(tensorflow.nn, DENSE), False),
    "v1 sparse": (lambda: getattr(tf.nn, SPARSE), True),
    "v1 dense": (lambda: getattr(tf.nn, DENSE), False),
    "v1 dense v2": (lambda: getattr(tf.nn, DENSE + "_v2"), False),
    "tf.losses sparse": (lambda: tf.losses.sparse_softmax_cross_entropy, True),
    "tf.losses dense": (lambda: tf.losses.softmax_cross_entropy, False),
}
OURS = {
    "v1 sparse": (lambda: tf1xent.nn.sparse_softmax_cross_entropy_with_logits, True),
    "v1 dense": (lambda: tf1xent.nn.softmax_cross_entropy_with_logits, False),
    "v1 dense v2": (lambda: tf1xent.nn.softmax_cross_entropy_with_logits_v2, False),
    "tf.losses sparse": (lambda: tf1xent.losses.sparse_softmax_cross_entropy, True),
    "tf.losses dense": (lambda: tf1xent.losses.softmax_cross_entropy, False),
    "masked": (lambda: tf1xent.nn.masked_sparse_softmax_cross_entropy_with_logits, True),
    "weighted": (lambda: tf1xent.nn.weighted_softmax_cross_entropy_with_logits, False),
}


def model_of(find, has_integers, **options):
    logits = tensorflow.keras.Input((3,))
    labels = tensorflow.keras.Input((), dtype="int32") if has_integers else None
    labels = tensorflow.keras.Input((3,)) if labels is None else labels
    function = find()
    name = "onehot_labels" if function.__name__ == "softmax_cross_entropy" else "labels"
    loss = function(**{name: labels, "logits": logits}, **options)
    return tensorflow.keras.Model([logits, labels], loss)


def kinds(model):
    """What layers a model has: which classes, of which functions.

    Without the modules: TF 2.15's tf.nn function hands over to that of compat.v1, ours does not.
    """
    return sorted(
        (type(layer).__name__, str(layer.get_config().get("function")).split(".")[-1])
        for layer in model.layers
    )


def assert_ours(model, has_integers):
    """Loss, gradient and Hessian product of the model are those of the oracle."""
    logits = tensorflow.constant(LOGITS)
    labels = tensorflow.constant(LABELS if has_integers else ONE_HOT)
    vector = np.array([[1.0, -2.0, 0.5], [0.5, 1.0, 3.0]], np.float32)
    with tensorflow.GradientTape() as outer:
        outer.watch(logits)
        with tensorflow.GradientTape() as inner:
            inner.watch(logits)
            loss = model([logits, labels])
        gradient = inner.gradient(loss, logits)
        product = tensorflow.reduce_sum(gradient * vector)
    second = outer.gradient(product, logits)
    oracle = reference.Reference(LOGITS)
    losses, share = oracle.sparse_loss(LABELS).astype(np.float64), 1.0
    if loss.shape.rank == 0:
        losses, share = losses.mean(), 0.5
    wanted = oracle.sparse_gradient(LABELS), oracle.derivative_product([vector])
    np.testing.assert_allclose(loss.numpy(), losses, rtol=2e-5)
    for found, want in zip((gradient, second), wanted):
        np.testing.assert_allclose(found.numpy(), share * want.astype(np.float64), rtol=2e-5)


@pytest.mark.parametrize("name", sorted(TENSORFLOWS))
def test_layers_are_those_of_tensorflows_function(name):
    try:
        stock = kinds(model_of(*TENSORFLOWS[name]))
    except ValueError:
        assert name == "v1 sparse"  # whose first argument is no tensor: Keras cannot call it
        stock = kinds(model_of(*TENSORFLOWS["tf.nn sparse"]))
    with tf1xent.patched(losses=True):
        model = model_of(*TENSORFLOWS[name])
        assert kinds(model) == stock
    if name in OURS:
        assert kinds(model_of(*OURS[name])) == stock
    assert_ours(model, TENSORFLOWS[name][1])


@pytest.mark.parametrize("name", sorted(OURS))
@pytest.mark.parametrize("options", [{}, {"implementation": "auto", "name": "xent"}])
def test_functions_called_by_name(name, options):
    if name.startswith("tf.losses"):
        options = {"scope" if key == "name" else key: value for key, value in options.items()}
    model = model_of(*OURS[name], **options)
    assert len(model.layers) == (4 if name == "v1 dense" else 3)
    assert_ours(model, OURS[name][1])


@pytest.mark.parametrize("name", sorted(TENSORFLOWS))
@pytest.mark.parametrize("implementation", [None, "auto"])
def test_a_model_is_loaded_with_tensorflows_function_and_under_the_patch_with_ours(
    name, implementation, tmp_path
):
    find, has_integers = TENSORFLOWS[name]
    with tf1xent.patched(losses=True, implementation=implementation):
        model = model_of(find, has_integers)
        model.save(str(tmp_path / "model.h5"))
    arguments = [LOGITS, LABELS if has_integers else ONE_HOT]
    with tf1xent.patched(losses=True):
        ours = tensorflow.keras.models.load_model(str(tmp_path / "model.h5"))
        assert kinds(ours) == kinds(model)
        assert_ours(ours, has_integers)
    stock = tensorflow.keras.models.load_model(str(tmp_path / "model.h5"))
    confident = np.atleast_1d(stock(arguments))[0]
    assert confident == 0 or name.startswith("tf.losses")
