"""What TensorFlow's functions refuse is refused under the patch, with the same type and words."""

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent

X, SOFT, LABELS = np.zeros((3, 4), np.float32), np.ones((3, 4), np.float32), np.ones(3, np.int32)


@pytest.fixture(autouse=True)
def unpatched():
    yield
    tf1xent.unpatch()


def fed(value, *shape):
    """A tensor of which the graph knows only a shape; without sizes not even the rank."""
    return tf.placeholder_with_default(value, list(shape) or None)


def refusal(build):
    """The type and the first line of what building or running a loss raises."""
    with tf.Graph().as_default(), tf.Session() as session:
        try:
            session.run(build())
        except Exception as error:  # whatever it is, ours has to be the same
            lines = [line for line in str(error).splitlines() if "execution error" not in line]
            words = next((line for line in lines if line.strip()), "")
            # Names of ops differ.
            return type(error), re.sub(r"'[^']*'|\{\{.*|Tensor\(.*| \(op:.*", "", words).strip()
    return None


def sparse(labels, logits):
    return lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels(), logits=logits())


def dense(labels, logits, **arguments):
    return lambda: tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=labels(), logits=logits(), **arguments
    )


def reduced(name, *arguments, **options):
    return lambda: getattr(tf.losses, name)(*[value() for value in arguments], **options)


def known(value):
    return lambda: tf.constant(value)


def unknown(value, *shape):
    return lambda: fed(value, *shape)


def reduced_sparse(*arguments, **options):
    return reduced("sparse_softmax_cross_entropy", *arguments, **options)


def reduced_dense(*arguments, **options):
    return reduced("softmax_cross_entropy", *arguments, **options)


CUBE = np.zeros((2, 3, 4), np.float32)

REFUSED = {
    "rows of the run": sparse(unknown(LABELS[:2], None), unknown(X, None, None)),
    "rows of the run, known classes": sparse(unknown(LABELS[:2], None), unknown(X, None, 4)),
    "labels of another rank in the run": sparse(unknown(LABELS[None]), unknown(X, None, None)),
    "rows": sparse(known(LABELS[:2]), known(X)),
    "rows of a cube": sparse(known(np.ones((2, 2), np.int32)), known(CUBE)),
    "scalar logits": sparse(known(np.int32(1)), known(np.float32(2))),
    "dense rows": dense(known(SOFT[:2]), known(X)),
    "dense rows of a cube": dense(known(CUBE[:, :2]), known(CUBE)),
    "dense rows of half": dense(known(SOFT[:2]), known(X.astype(np.float16))),
    "dense rows along an axis": dense(known(CUBE[:, :, :2]), known(CUBE), axis=1),
    "dense, scalars": dense(known(np.float32(1)), known(np.float32(2))),
    "dense, scalars along an axis": dense(known(np.float32(1)), known(np.float32(2)), axis=0),
    "dense, scalar logits": dense(known(SOFT[0]), known(np.float32(2))),
    "dense, scalar labels": dense(known(np.float32(1)), known(X[0])),
    "dense, an axis that is not there": dense(known(SOFT), known(X), axis=5),
    "reduced rows": reduced_sparse(known(LABELS[:2]), known(X)),
    "reduced rows of the run": reduced_sparse(unknown(LABELS[:2], None), unknown(X, None, None)),
    "reduced column of labels": reduced_sparse(known(LABELS[:2, None]), known(X)),
    "reduced labels of another rank": reduced_sparse(known(np.ones((2, 2, 2), np.int32)), known(X)),
    "reduced float labels": reduced_sparse(known(SOFT[:, 0]), known(X)),
    "reduced integer logits": reduced_sparse(known(LABELS), known(X.astype(np.int32))),
    "reduced scalar logits": reduced_sparse(known(np.int32(1)), known(np.float32(2))),
    "reduced dense rows": reduced_dense(known(SOFT[:2]), known(X)),
    "reduced dense row for all": reduced_dense(known(SOFT[:1]), known(X)),
    "reduced dense, another rank": reduced_dense(known(SOFT[:, :, None]), known(X)),
    "reduced dense integer logits": reduced_dense(known(SOFT), known(X.astype(np.int32))),
    "reduced dense scalars": reduced_dense(known(np.float32(1)), known(np.float32(2))),
}


@pytest.mark.parametrize("what", sorted(REFUSED))
def test_as_tensorflow_refuses_it(what):
    stock = refusal(REFUSED[what])
    assert stock is not None
    tf1xent.patch()
    assert refusal(REFUSED[what]) == stock
    tf1xent.patch(losses=True)
    assert refusal(REFUSED[what]) == stock


@pytest.mark.parametrize(
    "build, error",
    [
        (reduced_sparse(known(LABELS), known(X), weights=None), ValueError),
        (reduced_dense(known(SOFT), known(X), weights=None), ValueError),
        (reduced_dense(known(SOFT), known(X), label_smoothing=None), TypeError),
    ],
)
def test_none_is_no_argument_of_a_reduced_loss(build, error):
    assert refusal(build)[0] is error
    with tf1xent.patched(losses=True):
        assert refusal(build)[0] is error


@pytest.mark.parametrize("eager", ["dense, scalars", "dense, scalar labels", "rows"])
def test_eagerly_too(eager):
    if not hasattr(tf.constant(0.0), "numpy"):
        pytest.skip("this TensorFlow does not execute eagerly by default")
    with pytest.raises(Exception) as stock:
        REFUSED[eager]()
    tf1xent.patch()
    with pytest.raises(stock.type):
        REFUSED[eager]()


def test_errors_of_functions_with_options_name_the_programs_shapes():
    function = tf1xent.nn.weighted_softmax_cross_entropy_with_logits
    with tf.Graph().as_default(), pytest.raises(ValueError, match=r"\(2, 3, 4\), got \(2, 2, 4\)"):
        function(CUBE[:, :2], CUBE)
    function = tf1xent.losses.sparse_softmax_cross_entropy
    with tf.Graph().as_default(), pytest.raises(ValueError, match=r"\(2, 4\), got \(2, 3\)"):
        function(np.ones((2, 3), np.int32), CUBE, axis=1)
    with tf.Graph().as_default(), pytest.raises(ValueError, match="one of the 0 axes"):
        tf1xent.losses.softmax_cross_entropy(1.0, np.float32(2), axis=1)
