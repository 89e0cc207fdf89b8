"""The second and third derivatives of the CTC loss, against a sum over all paths."""

import itertools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.second_order.checking import quick_session
from tf1xent import _tf

TIME, CLASSES = 4, 4  # the last class is the blank
RANDOM = np.random.RandomState(11)
LOGITS = RANDOM.normal(size=[TIME, 7, CLASSES])
U, V = RANDOM.normal(size=[2, TIME, 7, CLASSES])
WEIGHTS = np.array([1.0, -0.7, 2.0, 0.5, 1.5, -1.0, 0.8])


@pytest.fixture(autouse=True)
def override():
    tf1xent.override_gradients()
    yield
    tf1xent.restore_gradients()


def emitted(path, merges):
    """Return the labels that a path of classes stands for."""
    repeats = [c for c, _ in itertools.groupby(path)] if merges else path
    return [c for c in repeats if c != CLASSES - 1]


def cleaned(labels, collapses):
    labels = [c for c, _ in itertools.groupby(labels)] if collapses else list(labels)
    return [c for c in labels if c < CLASSES - 1]


def over_all_paths(logits, sequences, lengths, collapses, merges, ignores):
    """The loss of each example, as minus the log of the sum over its paths."""
    losses, logs = [], tf.nn.log_softmax(logits)
    for example, (sequence, length) in enumerate(zip(sequences, lengths)):
        if length == 0 or (ignores and len(sequence) > length):
            losses.append(tf.zeros([], tf.float64))
            continue
        wanted = cleaned(sequence, collapses)
        paths = [
            path
            for path in itertools.product(range(CLASSES), repeat=length)
            if emitted(path, merges) == wanted
        ]
        chosen = tf.constant(np.eye(CLASSES)[np.array(paths)])  # [paths, time, classes]
        scores = tf.tensordot(chosen, logs[:length, example], 2)
        losses.append(-tf.log(tf.reduce_sum(tf.exp(scores))))
    return tf.stack(losses)


def fused(logits, sequences, lengths, collapses, merges, ignores):
    labels = tf.SparseTensor(
        [[b, i] for b, sequence in enumerate(sequences) for i in range(len(sequence))],
        np.int32([label for sequence in sequences for label in sequence]),
        [len(sequences), max(map(len, sequences))],
    )
    return tf.nn.ctc_loss(
        labels,
        tf.cast(logits, tf.float32),
        lengths,
        preprocess_collapse_repeated=collapses,
        ctc_merge_repeated=merges,
        ignore_longer_outputs_than_inputs=ignores,
    )


def derivatives(losses, logits, orders):
    """The gradient, and its derivatives along U and V. Curved in the loss, to mix the orders."""
    losses, batch = tf.cast(losses, tf.float64), logits.shape.as_list()[1]
    found = tf.gradients(tf.reduce_sum(WEIGHTS[:batch] * losses + losses * losses / 10), logits)
    for direction in (U, V)[: orders - 1]:
        found += tf.gradients(tf.reduce_sum(found[-1] * direction[:, :batch]), logits)
    return found


# The labels, the lengths in time, the options, and the orders of derivatives to check.
PLAIN = ([[0, 1], [2], [1, 0, 2]], np.int32([4, 3, 4]), (False, True, False))
CASES = [
    (
        # Also repeated labels, which need a blank between them, and null labels, which end one.
        [*PLAIN[0], [1, 1], [0, 0], [1, 3], [2, 0, 3, 3]],
        np.int32([4, 3, 4, 4, 3, 2, 4]),
        PLAIN[2],
        3,
    ),
    ([[1, 1, 0], [2, 2], [0, 1, 0]], np.int32([4, 3, 4]), (True, False, False), 2),
    ([[1, 0], [0, 1, 2], [1]], np.int32([4, 2, 0]), (False, True, True), 2),
]


def test_derivatives_are_those_of_the_sum_over_all_paths():
    with tf.Graph().as_default(), quick_session() as session:
        results = []
        for sequences, lengths, options, orders in CASES:
            logits = tf.constant(LOGITS[:, : len(sequences)])
            losses = [f(logits, sequences, lengths, *options) for f in (fused, over_all_paths)]
            results.append([derivatives(loss, logits, orders) for loss in losses])
        results = session.run(results)
    for (_, _, options, _), (founds, wanteds) in zip(CASES, results):
        for order, (found, wanted) in enumerate(zip(founds, wanteds), 1):
            message = f"{options}, order {order}"
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5, err_msg=message)


# Three examples.
LOGITS_3, U_3 = LOGITS[:, :3], U[:, :3]


def gradient_of_plain(logits):
    losses = tf.cast(fused(logits, PLAIN[0], PLAIN[1], *PLAIN[2]), tf.float64)
    return tf.gradients(tf.reduce_sum(WEIGHTS[:3] * losses), logits)[0]


def product(gradient, logits):
    return tf.gradients(tf.reduce_sum(gradient * U_3), logits)[0]


def test_graphs_and_gradients_that_exist_already():
    tf1xent.restore_gradients()
    with tf.Graph().as_default() as graph, quick_session() as session:
        logits = tf.constant(LOGITS_3)
        losses = fused(logits, PLAIN[0], PLAIN[1], *PLAIN[2])
        gradient = tf.gradients(losses, logits)[0]
        before = session.run(gradient)
        with pytest.raises(LookupError):
            product(gradient, logits)
        tf1xent.override_gradients(graph)
        again = tf.gradients(losses, logits)[0]
        products = [product(g, logits) for g in (gradient, again)]
        first, (recorded, new) = session.run([again, products])
        assert np.array_equal(first, before)
        np.testing.assert_allclose(recorded, new)
        assert np.abs(new).max() > 0.1
        tf1xent.restore_gradients(graph)
        with pytest.raises(LookupError):
            product(gradient, logits)


def test_shapes_known_only_when_it_runs():
    with tf.Graph().as_default(), quick_session() as session:
        logits = tf.placeholder(tf.float64, [None, None, CLASSES])
        known = tf.constant(LOGITS_3)
        products = [product(gradient_of_plain(x), x) for x in (logits, known)]
        assert products[0].shape.as_list() == [None, 3, CLASSES]
        np.testing.assert_allclose(*session.run(products, {logits: LOGITS_3}))


def test_classes_that_are_impossible():
    impossible = np.copy(LOGITS_3)
    impossible[1:3, :, 2] = -np.inf
    with tf.Graph().as_default(), quick_session() as session:
        logits = tf.placeholder(tf.float64, LOGITS_3.shape)
        of_logits = product(gradient_of_plain(logits), logits)
        found = [
            session.run(of_logits, {logits: x}) for x in (impossible, np.maximum(impossible, -80))
        ]
    np.testing.assert_allclose(*found, atol=1e-6)


def test_no_path_leaves_the_softmax():
    """Two equal labels need a blank between them: in two steps there is no path."""
    with tf.Graph().as_default(), quick_session() as session:
        logits = tf.constant(LOGITS[:2, :1])
        loss = fused(logits, [[1, 1]], np.int32([2]), False, True, False)
        gradient = tf.gradients(loss, logits)[0]
        second = tf.gradients(tf.reduce_sum(gradient * U[:2, :1]), logits)[0]
        of_softmax = tf.gradients(tf.reduce_sum(tf.nn.softmax(logits) * U[:2, :1]), logits)[0]
        np.testing.assert_allclose(*session.run([second, of_softmax]), rtol=1e-5)


def test_the_op_whose_blank_comes_first():
    """It has no kernel on CPUs; its second derivative reads only its inputs."""
    if _tf.op_definition("CTCLossV2") is None:
        pytest.skip(f"TensorFlow {_tf.version()} has no op CTCLossV2")
    sequences, lengths, _ = PLAIN
    with tf.Graph().as_default() as graph:
        logits = tf.constant(LOGITS_3)
        labels = [(b, i, label) for b, s in enumerate(sequences) for i, label in enumerate(s)]
        backprop = _tf.raw_op("CTCLossV2")(
            inputs=tf.cast(tf.concat([logits[..., 3:], logits[..., :3]], 2), tf.float32),
            labels_indices=np.int64([entry[:2] for entry in labels]),
            labels_values=np.int32([label + 1 for _, _, label in labels]),
            sequence_length=lengths,
        )[1]
        moved = np.float32(np.concatenate([U_3[..., 3:], U_3[..., :3]], 2))
        second = tf.identity(tf.gradients(backprop, logits, moved)[0], name="second")
        part = tf.graph_util.extract_sub_graph(graph.as_graph_def(), [second.op.name])
    assert "CTCLossV2" not in {node.op for node in part.node}
    with tf.Graph().as_default(), quick_session() as session:
        (second,) = tf.import_graph_def(part, return_elements=["second:0"])
        logits = tf.constant(LOGITS_3)
        losses = fused(logits, sequences, lengths, False, True, False)
        wanted = product(tf.gradients(losses, logits)[0], logits)
        np.testing.assert_allclose(*session.run([second, wanted]), rtol=1e-5)


def by_tapes(logits):
    """A product with the Hessian by two tapes, which keep fewer inputs of an op than a graph."""
    with tf.GradientTape() as outer:
        outer.watch(logits)
        with tf.GradientTape() as inner:
            inner.watch(logits)
            losses = tf.cast(fused(logits, PLAIN[0], PLAIN[1], *PLAIN[2]), tf.float64)
            loss = tf.reduce_sum(WEIGHTS[:3] * losses)
        gradient = inner.gradient(loss, logits)
    return outer.gradient(gradient, logits, tf.constant(U_3))


@pytest.mark.lengthy
def test_tapes():
    with tf.Graph().as_default(), quick_session() as session:
        logits = tf.constant(LOGITS_3)
        wanted = product(gradient_of_plain(logits), logits)
        found, wanted = session.run([by_tapes(logits), wanted])
    np.testing.assert_allclose(found, wanted)
    if tf.executing_eagerly():
        logits = tf.constant(LOGITS_3)
        in_function = tf.function(by_tapes, autograph=False)
        np.testing.assert_allclose(in_function(logits), wanted)
        with pytest.raises(tf1xent.errors.MissingDerivativeError, match=r"tf\.function"):
            by_tapes(logits)
