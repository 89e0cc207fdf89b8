"""What the losses by shards are given: variables in parts, shapes, reductions; what is refused."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.losses.linear_layer import BIASES, DIM, INPUTS, NUM_CLASSES, WEIGHTS
from tests.losses.shards import cut, logits_loss
from tests.support.option_cases import unoptimised
from tf1xent import losses
from tf1xent.losses import Reduction

LABELS = np.array([0, 6, 3])
LOGITS = INPUTS[0].dot(WEIGHTS)
CLASS_WEIGHTS = np.linspace(0.5, 2.0, NUM_CLASSES)


def partitioned(name, value, axis, parts):
    """A partitioned variable of a value, as a program makes it."""
    return tf.get_variable(
        name,
        shape=value.shape,
        dtype=tf.float64,
        initializer=lambda shape, dtype, partition_info: tf.constant(
            value[tuple(slice(o, o + s) for o, s in zip(partition_info.var_offset, shape))]
        ),
        partitioner=tf.fixed_size_partitioner(parts, axis=axis),
    )


@pytest.mark.parametrize("transposed", [False, pytest.param(True, marks=pytest.mark.lengthy)])
def test_partitioned_variables(transposed):
    """Weights, biases and class weights in uneven parts: the loss and gradients of one tensor."""
    with tf.Graph().as_default(), tf.Session() as session:
        layout, axis = (WEIGHTS.T, 0) if transposed else (WEIGHTS, 1)
        parts = [
            partitioned("weights", layout, axis, 3),
            partitioned("biases", BIASES, 0, 3),
            partitioned("class_weights", CLASS_WEIGHTS, 0, 3),
        ]
        whole = [tf.constant(value) for value in (layout, BIASES, CLASS_WEIGHTS)]
        results = []
        for weights, biases, class_weights in (parts, whole):
            loss = losses.linear_softmax_cross_entropy(
                LABELS,
                INPUTS[0],
                weights,
                biases,
                class_weights=class_weights,
                transpose_weights=transposed,
                chunk_size=2,
                reduction=Reduction.SUM_BY_CLASS_WEIGHTS,
            )
            operands = [weights, biases, class_weights]
            if not isinstance(weights, tf.Tensor):
                assert [part.shape.as_list()[axis] for part in weights] == [3, 2, 2]
                operands = [part for variable in operands for part in variable]
            results.append([loss, tf.gradients(loss, operands)])
        session.run(tf.global_variables_initializer())
        (got, by_part), (want, gradients) = session.run(results)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    joined = [
        np.concatenate(by_part[:3], axis),
        np.concatenate(by_part[3:6]),
        np.concatenate(by_part[6:]),
    ]
    for one, other in zip(joined, gradients):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-14)


def test_a_partitioned_variable_of_logits():
    with tf.Graph().as_default(), tf.Session() as session:
        logits = partitioned("logits", LOGITS, 1, 2)
        ours = losses.sharded_softmax_cross_entropy(LABELS, logits)
        theirs = losses.sparse_softmax_cross_entropy(LABELS, LOGITS)
        session.run(tf.global_variables_initializer())
        got, want = session.run([ours, theirs])
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.lengthy
@pytest.mark.parametrize("name", [name for name in dir(Reduction) if name.isupper()])
def test_every_reduction(name):
    options = {
        "ignore_label": 3,
        "class_weights": CLASS_WEIGHTS,
        "reduction": getattr(Reduction, name),
        "loss_collection": None,
    }
    with tf.Graph().as_default(), tf.Session() as session:
        weights = np.array([0.5, 2.0, 1.0])
        ours = losses.sharded_softmax_cross_entropy(
            LABELS, cut(LOGITS, (3, 4)), example_weights=weights, **options
        )
        theirs = losses.sparse_softmax_cross_entropy(LABELS, LOGITS, weights, **options)
        got, want = session.run([ours, theirs])
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.lengthy
@pytest.mark.parametrize("strategy, sizes", [("div", (5, 2)), ("mod", (4, 3))])
def test_shapes_that_only_the_run_knows(strategy, sizes):
    """Of rank 3, with labels of rank 2 and options by class and by row; and an empty batch."""
    logits = INPUTS.dot(WEIGHTS)
    labels = np.array([[0, 6, 3], [5, 2, 1]])
    options = {
        "class_weights": CLASS_WEIGHTS,
        "label_smoothing": 0.125,  # the same in float32
        "class_mask": np.array([[[True] * 6 + [False]], [[True] * 7]]),
    }
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
        given = tf.placeholder(tf.float64, [None, None, None])
        given_labels = tf.placeholder(tf.int64, None)
        shards = [
            tf.placeholder_with_default(shard, [None, None, None])
            for shard in cut(given, sizes, strategy)
        ]
        unknown = {
            name: tf.placeholder_with_default(value, [None] * np.ndim(value))
            for name, value in options.items()
        }
        unknown["class_mask"] = options["class_mask"]
        ours = logits_loss(
            given_labels, shards, partition_strategy=strategy, chunk_size=3, **unknown
        )
        theirs = losses.sparse_softmax_cross_entropy(
            given_labels, given, reduction="none", loss_collection=None, **options
        )
        pairs = [(loss, tf.gradients(loss, given)[0]) for loss in (ours, theirs)]
        feed = {given: logits, given_labels: labels}
        got, want = session.run(pairs, feed)
        empty = session.run(pairs[0], {given: logits[:, :0], given_labels: labels[:, :0]})
        with pytest.raises(tf.errors.InvalidArgumentError, match="labels"):
            session.run(ours, {given: logits, given_labels: labels[:1]})
        with pytest.raises(tf.errors.InvalidArgumentError, match="13 which is outside.*0, 7"):
            session.run(ours, {given: logits, given_labels: labels + 7})
    assert np.isinf(got[0][0, 1]) and np.isinf(want[0][0, 1])  # the label that is left out
    for one, other in zip(got, want):
        one, other = (np.delete(value.reshape((6, -1)), 1, axis=0) for value in (one, other))
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-14)
    assert empty[0].shape == (2, 0) and empty[1].shape == (2, 0, 7)


def test_sizes_that_mod_does_not_give_fail_in_the_run():
    with tf.Graph().as_default(), tf.Session() as session:
        shards = [tf.placeholder(tf.float64, [3, None]) for _ in range(2)]
        loss = logits_loss(LABELS, shards, partition_strategy="mod")
        feed = dict(zip(shards, (LOGITS[:, :3], LOGITS[:, 3:])))
        with pytest.raises(tf.errors.InvalidArgumentError, match="mod"):
            session.run(loss, feed)


def test_invalid_labels():
    """Of each policy, also where no shard has the label's class."""
    labels = np.array([0, 7, -1])
    with tf.Graph().as_default(), tf.Session() as session:

        def build(policy):
            given = tf.placeholder_with_default(labels, labels.shape)
            return logits_loss(
                given, cut(LOGITS, (4, 3), "mod"), partition_strategy="mod", invalid_labels=policy
            )

        for policy in (None, "raise"):
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(build(policy))
        assert list(np.isnan(session.run(build("nan")))) == [False, True, True]
        ignored = session.run(build("ignore"))
    assert ignored[0] > 0 and not ignored[1:].any()


ARRAY = np.zeros
LISTED = [ARRAY([2, 3]), ARRAY([2, 4])]
BAD = [
    ({"partition_strategy": "even"}, ValueError, '`partition_strategy` must be "div" or "mod"'),
    ({"logits_shards": ARRAY([2, 3])}, TypeError, "`logits_shards` must be a list of tensors"),
    ({"logits_shards": []}, TypeError, "`logits_shards` must be a list of tensors"),
    ({"logits_shards": [ARRAY([2, 3]), ARRAY([2, 0])]}, ValueError, "each shard must have a class"),
    ({"logits_shards": [ARRAY([2, 3]), ARRAY([3, 3])]}, ValueError, "`labels` must have the shape"),
    ({"logits_shards": [ARRAY([2, 3], int)]}, TypeError, "`logits_shards` must be half"),
    (
        {"logits_shards": [ARRAY([2, 3]), ARRAY([2, 3], np.float32)]},
        TypeError,
        "`logits_shards` must be of one dtype",
    ),
    ({"partition_strategy": "mod"}, ValueError, "shards must hold equally many classes.*3, 4"),
    ({"labels": ARRAY([2])}, TypeError, "`labels` must be int32 or int64"),
    ({"chunk_size": 0}, ValueError, "`chunk_size` must be an integer of at least 1"),
    ({"class_weights": [1.0] * 3}, ValueError, "`class_weights` must be .* for 7 classes"),
    (
        {"class_weights": [ARRAY([3])] * 3},
        ValueError,
        "`class_weights` must be one tensor, or one for each of the 2 shards, got 3",
    ),
    ({"class_weights": [ARRAY([3]), ARRAY([5])]}, ValueError, "`class_weights` must be .* for 4"),
    ({"class_mask": [False] * 7}, ValueError, "`class_mask` must leave at least one class in"),
    ({"class_mask": [True] * 6}, ValueError, "`class_mask` must have the shape"),
    ({"class_mask": [1] * 7}, TypeError, "`class_mask` must be bool"),
    ({"implementation": "kernel"}, TypeError, "unexpected keyword argument 'implementation'"),
    ({"reduction": "mean"}, ValueError, "`reduction` must be one of"),
]


@pytest.mark.parametrize("arguments, error, words", BAD)
def test_bad_input(arguments, error, words):
    good = {"labels": ARRAY([2], np.int32), "logits_shards": LISTED}
    with tf.Graph().as_default(), pytest.raises(error, match=words):
        losses.sharded_softmax_cross_entropy(**dict(good, **arguments))


def test_a_variable_partitioned_along_its_features_is_refused():
    with tf.Graph().as_default():
        weights = partitioned("weights", WEIGHTS, 0, DIM)
        with pytest.raises(ValueError, match="`weights` must be partitioned along the classes"):
            losses.linear_softmax_cross_entropy(LABELS, INPUTS[0], weights)
