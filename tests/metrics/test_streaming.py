"""The streaming metrics: batch by batch the value of all batches at once, as in `tf.metrics`."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.metrics.calls import NAMES, NOTHING, NUM_BINS, OWN_ARGUMENTS, K, stream
from tests.oracle.metric_reference import all_metrics
from tf1xent import metrics

IGNORED = 255
BATCHES = (5, 1, 0, 9)


def batches(seed=4):
    """Arrays for batches of those sizes: logits, labels, mask, weights."""
    random = np.random.RandomState(seed)
    for size in BATCHES:
        labels = random.randint(4, size=[size, 3])
        labels[random.uniform(size=[size, 3]) < 0.2] = IGNORED
        mask = random.uniform(size=[size, 3]) < 0.7
        weights = np.where(mask, random.randint(4, size=[size, 3]) / 2.0, np.nan)
        logits = np.where(mask[..., np.newaxis], random.normal(size=[size, 3, 4]) * 2, np.inf)
        yield logits, labels, mask, weights


def flat(arrays):
    """The examples of all batches, one a row."""
    return np.concatenate([array.reshape((-1,) + array.shape[2:]) for array in arrays])


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "dtype, kind, weighted",
    [
        ("float32", "sparse", True),
        ("float32", "dense", False),
        ("float64", "sparse", False),
        ("float64", "dense", True),
    ],
)
def test_batches_add_up_to_one(dtype, kind, weighted):
    is_dense = kind == "dense"
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.placeholder(dtype, [None, None, 4])
        labels = tf.placeholder(dtype if is_dense else "int32", [None, None] + [4] * is_dense)
        mask = tf.placeholder(tf.bool, [None, None])
        weights = tf.placeholder(tf.float32, [None, None])
        options = {"mask": mask, "weights": weights if weighted else None}
        if not is_dense:
            options["ignore_label"] = IGNORED
        pairs = {name: stream(name, labels, logits, **options) for name in NAMES}
        values = {name: pair[0] for name, pair in pairs.items()}
        updates = {name: pair[1] for name, pair in pairs.items()}
        session.run(tf.local_variables_initializer())
        assert session.run(values) == NOTHING

        seen = []
        for all_logits, classes, given_mask, given_weights in batches():
            valid_rows = given_mask & (classes != IGNORED)
            seen.append((all_logits, np.minimum(classes, 3), valid_rows, given_weights))
            fed = {logits: all_logits, labels: classes, mask: given_mask, weights: given_weights}
            if is_dense:
                fed.update({labels: np.eye(4)[np.minimum(classes, 3)], mask: valid_rows})
            updated = session.run(updates, fed)
            assert session.run(values) == updated
            rows, classes, valid_rows, given_weights = map(flat, zip(*seen))
            want = all_metrics(
                rows, classes, valid_rows, given_weights if weighted else None, K, NUM_BINS
            )
            for name in NAMES:
                tolerance = 1e-5 if dtype == "float32" else 1e-12
                np.testing.assert_allclose(updated[name], want[name], rtol=tolerance, err_msg=name)
                assert updated[name].dtype == {"token_count": ["int64", "float64"][weighted]}.get(
                    name, dtype
                )
        assert 0 < want["accuracy"] < want["top_k_accuracy"] < 1

        session.run(tf.local_variables_initializer())
        assert session.run(values) == NOTHING


def test_the_same_numbers_as_tensorflows_metrics():
    random = np.random.RandomState(6)
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.placeholder(tf.float32, [None, 5])
        labels = tf.placeholder(tf.int64, [None])
        weights = tf.placeholder(tf.float32, [None])
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        in_top = tf.cast(tf.nn.in_top_k(logits, labels, K), tf.float32)
        stock = [
            tf.metrics.accuracy(labels, tf.argmax(logits, 1), weights),
            tf.metrics.mean(in_top, weights),
            tf.metrics.mean(losses, weights),
        ]
        names = "accuracy", "top_k_accuracy", "negative_log_likelihood"
        ours = [stream(name, labels, logits, weights=weights) for name in names]
        session.run(tf.local_variables_initializer())
        for size in BATCHES:
            fed = {
                logits: random.normal(size=[size, 5]),
                labels: random.randint(5, size=size),
                weights: random.uniform(size=size),
            }
            updated, wanted = session.run([[u for _, u in ours], [u for _, u in stock]], fed)
            np.testing.assert_allclose(updated, wanted, rtol=1e-5)
        got, wanted = session.run([[v for v, _ in ours], [v for v, _ in stock]])
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_variables_and_collections(name):
    with tf.Graph().as_default(), tf.Session() as session:
        logits = [[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]
        arguments = [0, 1, 2], np.array(logits, np.float32)
        value, update_op = stream(
            name, *arguments, metrics_collections=["values"], updates_collections=["updates", "all"]
        )
        other_value, _ = stream(name, *arguments, name="other")
        assert tf.get_collection("values") == [value]
        assert tf.get_collection("updates") == tf.get_collection("all") == [update_op]
        assert (value.op.name, update_op.op.name) == (name + "/value", name + "/update_op")
        names = ["total"] if name == "token_count" else ["total", "count"]
        for key in tf.GraphKeys.LOCAL_VARIABLES, tf.GraphKeys.METRIC_VARIABLES:
            found = [variable.op.name for variable in tf.get_collection(key)]
            assert found == [scope + "/" + n for scope in (name, "other") for n in names]
        assert tf.global_variables() == tf.trainable_variables() == []
        session.run(tf.local_variables_initializer())
        session.run(update_op)
        assert session.run(value) not in (0, 1)
        assert session.run(other_value) == NOTHING[name]  # variables of its own


def test_a_batch_that_fails_is_not_added():
    with tf.Graph().as_default(), tf.Session() as session:
        labels = tf.placeholder(tf.int32, [None])
        value, update_op = metrics.streaming_negative_log_likelihood(labels, tf.zeros([2, 3]))
        session.run(tf.local_variables_initializer())
        session.run(update_op, {labels: [0, 1]})
        before = session.run([value] + tf.local_variables())
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(update_op, {labels: [0, 3]})
        assert session.run([value] + tf.local_variables()) == before


def test_counts_beyond_float32():
    many = 2.0**24
    with tf.Graph().as_default(), tf.Session() as session:
        weights = tf.placeholder(tf.float32, [])
        pairs = [stream(name, [0], [[1.0, 0.0]], weights=weights) for name in NAMES]
        session.run(tf.local_variables_initializer())
        for weight in many, 1.0, 1.0:
            session.run([update_op for _, update_op in pairs], {weights: weight})
        count = [v for v in tf.local_variables() if v.op.name.endswith("count/total")]
        counts = count + [v for v in tf.local_variables() if v.op.name.endswith("/count")]
        assert session.run(counts) == [many + 2] * len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_refused_under_the_functions_own_name(name):
    with tf.Graph().as_default():
        for arguments, error in [
            (([0.0, 1.0], np.zeros([2, 3])), TypeError),
            (([0, 1, 2], np.zeros([2, 3])), ValueError),
        ]:
            with pytest.raises(error, match=f"^streaming_{name}: `labels` must"):
                stream(name, *arguments)
        assert tf.local_variables() == []
        for own in OWN_ARGUMENTS.get(name, {}):
            with pytest.raises(ValueError, match=f"^streaming_{name}: `{own}` must"):
                stream(name, [0, 1], np.zeros([2, 3]), **{own: 0})


@pytest.mark.parametrize("name", NAMES)
def test_eager_execution_is_refused(name):
    messages = []

    def eagerly():
        with pytest.raises(RuntimeError, match="eager execution is enabled") as caught:
            stream(name, [0], np.zeros([1, 2]))
        messages.append(str(caught.value))
        return 0.0

    # The body of a py_function runs eagerly, on every version and without a switch.
    with tf.Graph().as_default(), tf.Session() as session:
        session.run(tf.py_function(eagerly, [], tf.float32))
    assert messages[0].startswith(f"streaming_{name} is not supported")
    assert f"or {name} on each batch" in messages[0]
