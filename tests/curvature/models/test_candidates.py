"""Losses and variables of graphs by other programs: found, ranked, refused with what is there."""

import pytest
import tensorflow.compat.v1 as tf

from tests.corpus.reading import FILES, entries
from tf1xent.curvature.models.candidates import find_loss, loss_candidates, reached_variables
from tf1xent.curvature.models.loading import load_model

ENTRIES = {entry.id: entry for entry in entries()}
META = FILES / "tf115" / "classifier" / "model.meta"


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_the_loss_is_among_the_first_candidates(name):
    entry = ENTRIES[name]
    if entry.kind == "graph_def":
        return
    with tf.Graph().as_default() as graph:
        try:
            entry.import_graph()
        except ValueError:
            return  # of a TensorFlow that this one cannot read
        found = [candidate.tensor.name for candidate in loss_candidates(graph)]
    assert entry.loss in found[:2], found


def test_candidates_are_ranked_with_reasons():
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        weights = tf.get_variable("weights", [3, 2])
        logits = tf.matmul(x, weights, name="logits")
        listed = tf.losses.mean_squared_error(tf.zeros_like(logits), logits, scope="fit")
        penalty = tf.nn.l2_loss(weights, name="penalty")
        total = tf.add(listed, 0.1 * penalty, name="everything")
        right = tf.equal(tf.argmax(logits, 1), tf.argmax(x, 1))
        accuracy = tf.reduce_mean(tf.cast(right, tf.float32), name="loss_of_accuracy")
        tf.train.GradientDescentOptimizer(0.1).minimize(total)
        found = loss_candidates(graph, most=50)
    names = [candidate.tensor.name for candidate in found]
    assert str(found[0]) == "everything:0 [] (the graph's gradients start here)"
    assert str(found[1]) == f"{listed.name} [] (in the collection `losses`)"
    assert accuracy.name not in names  # no gradient goes through argmax
    assert not [name for name in names if "gradients" in name]
    with tf.Graph().as_default() as graph:
        assert loss_candidates(graph) == []


def test_what_a_training_loop_calls_comes_last():
    """Losses that also update moving averages; operators refuse them."""
    with tf.Graph().as_default() as graph:
        x = tf.get_variable("x", [2])
        average = tf.get_variable("average", [], trainable=False)
        loss = tf.reduce_sum(x**2, name="mean")
        with tf.control_dependencies([tf.assign(average, 0.9 * average + 0.1 * loss)]):
            tf.identity(loss, name="loss")
        found = [candidate.tensor.name for candidate in loss_candidates(graph)]
    assert found[-1] == "loss:0" and "mean:0" in found


def test_a_loss_that_is_missing_or_wrong_is_refused_with_candidates():
    with load_model(META) as model:

        def error(name):
            with pytest.raises(ValueError) as raised:
                find_loss(model.graph, name, model.variables, "test", "model.meta")
            return str(raised.value)

        likely = (
            "Candidates, likeliest first: loss:0 [] (the graph's gradients start here, its name)."
        )
        assert error(None) == f"test: model.meta: the loss must be named. {likely}"
        assert error("lost") == f"test: model.meta: the graph has no `lost`. {likely}"
        assert error("loss:1") == f"test: model.meta: the graph has no `loss:1`. {likely}"
        assert error("global_step").startswith(
            "test: model.meta: the loss must be of a floating type, got `global_step:0` of int64."
        )
        assert error("xent/xent:0") == (
            "test: model.meta: the loss must be a scalar, got `xent/xent:0` [?]. "
            "Give a scalar that is computed from it: `loss:0`."
        )
        assert "Give its mean" in error("hidden/kernel/Momentum")
        assert find_loss(model.graph, "loss", model.variables, "t", "m").name == "loss:0"


# Variables ----------------------------------------------------------------------------------------


def test_variables_by_name_by_scope_and_as_tensors():
    with load_model(META) as model:

        def names(*given):
            return [x.name for x in model.find_variables(given)]

        assert names("logits") == ["logits/kernel:0", "logits/bias:0"]
        assert names("logits/", "hidden/bias", "hidden/bias:0") == [
            "logits/kernel:0",
            "logits/bias:0",
            "hidden/bias:0",
        ]
        assert names("hidden/kernel/Momentum") == ["hidden/kernel/Momentum:0"]
        assert names("hidden/Tanh") == ["hidden/Tanh:0"]
        assert model.find_variables() == model.variables
        with pytest.raises(ValueError, match="has no tensor `nowhere`. Its trainable variables"):
            names("nowhere")


def test_variables_that_the_loss_does_not_reach_are_left_out():
    entry = ENTRIES["tf113-keras"]  # it lists the optimizer's among the trainable ones
    with load_model(entry.path) as model:
        loss = model.graph.get_tensor_by_name(entry.loss)
        variables, left_out = reached_variables([loss], model.variables, "test")
        assert [v.op.name for v in variables] == [
            "dense/kernel",
            "dense/bias",
            "logits/kernel",
            "logits/bias",
        ]
        assert "SGD/lr" in [v.op.name for v in left_out]
        with pytest.raises(
            ValueError, match="no path of gradients leads from SGD/lr:0, .* and others to"
        ):
            reached_variables([loss], left_out, "test")
