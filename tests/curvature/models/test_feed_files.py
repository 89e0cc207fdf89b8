"""Feeds from files: cut into batches, completed, and refused by name."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tf1xent.curvature.models.feed_files import feed_batches, read_arrays


@pytest.fixture(scope="module")
def fed():
    """A graph with all kinds of inputs; returns it with its loss."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 2], name="x")
        y = tf.placeholder(tf.int32, [None], name="y")
        rate = tf.placeholder(tf.float32, [], name="rate")
        scale = tf.placeholder_with_default(2.0, [], name="scale")
        classes = tf.placeholder(tf.float32, [3], name="classes")
        text = tf.placeholder(tf.string, [None], name="text")
        tf.placeholder(tf.float32, [None], name="unused")
        loss = tf.reduce_mean(x) * rate * scale + tf.reduce_sum(tf.gather(classes, y))
        loss += tf.cast(tf.size(text), tf.float32)
    arrays = {
        "x": np.arange(10.0).reshape(5, 2),
        "y:0": np.array([0, 1, 2, 0, 1]),
        "rate": 0.5,
        "classes": np.ones(3),
        "text": np.array(["a", "b", "c", "d", "e"]),
    }
    return graph, loss, arrays


def test_feeds_are_cut_into_batches_with_a_smaller_last_one(fed):
    graph, loss, arrays = fed
    feeds, sizes = feed_batches(graph, [loss], arrays, 2)
    assert sizes == [2, 2, 1]
    x, y = graph.get_tensor_by_name("x:0"), graph.get_tensor_by_name("y:0")
    np.testing.assert_array_equal(np.concatenate([feed[x] for feed in feeds]), arrays["x"])
    assert [feed[y].dtype for feed in feeds] == [np.int32] * 3
    assert all(feed[graph.get_tensor_by_name("classes:0")].shape == (3,) for feed in feeds)
    assert graph.get_tensor_by_name("scale:0") not in feeds[0]
    with tf.Session(graph=graph) as session:
        losses = [session.run(loss, feed) for feed in feeds]
    np.testing.assert_allclose(losses, [1.5 + 4, 5.5 + 4, 8.5 + 2], rtol=1e-6)
    given, sizes = feed_batches(graph, [loss], dict(arrays, scale=np.float64(4)))
    assert sizes == [5]
    assert given[0][graph.get_tensor_by_name("scale:0")] == 4


def test_wrong_feeds_are_named(fed):
    graph, loss, arrays = fed

    def error(changed, batch_size=None, kind=ValueError):
        given = {
            name: value for name, value in dict(arrays, **changed).items() if value is not None
        }
        with pytest.raises(kind) as raised:
            feed_batches(graph, [loss], given, batch_size)
        return str(raised.value)

    assert "needs placeholders that are not fed: rate [] float32, x [?, 2] float32." in error(
        {"x": None, "rate": None}
    )
    assert (
        "the graph has no tensor `z` that can be fed. The loss needs classes, rate, text, x, y."
        in error({"z": 1})
    )
    assert "`x:0` must be fed with the shape [?, 2], got [5, 3] of an array [5, 3]" in error(
        {"x": np.zeros([5, 3])}
    )
    assert "must have as many examples, got `text:0` 5, `x:0` 4, `y:0` 5" in error(
        {"x": np.zeros([4, 2])}
    )
    assert "`classes:0` must be fed with the shape [3], got [2] of an array [5]" in error(
        {"classes": np.ones(5)}, 2
    )
    assert "`y` must have values that fit int32, got float64" in error(
        {"y:0": None, "y": np.ones(5)}, kind=TypeError
    )
    assert "must have values that fit int32, got int64" in error(
        {"y:0": np.full(5, 2**40)}, kind=TypeError
    )
    assert "`batch_size` must be at least 1, got 0" in error({}, 0)
    assert "each tensor must be given once" in error({"y": arrays["y:0"]})
    assert "must hold an example, got 0" in error(
        {"x": np.zeros([0, 2]), "y:0": np.zeros(0, int), "text": np.array([], "S1")}
    )


def test_an_input_pipeline_is_fed_by_the_names_of_its_outputs():
    with tf.Graph().as_default() as graph:
        data = tf.data.Dataset.from_tensors((np.float32([1, 2]), np.float32(3)))
        iterator = tf.data.make_one_shot_iterator(data)
        x, y = iterator.get_next()
        loss = tf.reduce_sum(x) * y
        with pytest.raises(ValueError, match="reads an input pipeline.*IteratorGetNext:0.*:1"):
            feed_batches(graph, [loss], {})
        arrays = {"IteratorGetNext:0": [5, 6], "IteratorGetNext:1": 2}
        feeds, sizes = feed_batches(graph, [loss], arrays)
        with tf.Session() as session:
            assert (session.run(loss, feeds[0]), sizes) == (22, [1])


def test_arrays_are_read_from_an_npz_file_and_nothing_else(tmp_path):
    np.savez(str(tmp_path / "data.npz"), x=np.arange(3), y=np.float32(1))
    assert sorted(read_arrays(tmp_path / "data.npz")) == ["x", "y"]
    np.save(str(tmp_path / "one.npy"), np.arange(3))
    np.savez(str(tmp_path / "objects.npz"), x=np.array([None, {}], object))
    (tmp_path / "damaged.npz").write_bytes((tmp_path / "data.npz").read_bytes()[:-30])
    (tmp_path / "text.npz").write_text("x, y")
    for name in ("one.npy", "objects.npz", "damaged.npz", "text.npz"):
        with pytest.raises(ValueError, match=f"{name} must be an .npz file"):
            read_arrays(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none.npz")
