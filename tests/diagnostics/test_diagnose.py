"""diagnose: what it takes, what it leaves as it was, and which problem it names."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.stuck.trainings import IMAGES, LABELS, Training
from tf1xent.diagnostics import diagnose
from tf1xent.diagnostics.diagnosing import diagnose_step
from tf1xent.diagnostics.replaying.step import Step


def log_of_softmax(logits, labels):
    p = tf.nn.softmax(logits, name="p")
    return -tf.reduce_mean(tf.reduce_sum(tf.one_hot(labels, 10) * tf.log(p, name="log"), 1))


def with_nan(training):
    feed = training.feed()
    feed[training.x] = feed[training.x].copy()
    feed[training.x][3, 5] = np.nan
    return feed


@pytest.fixture(scope="module")
def tanh_net():
    with Training(tf.tanh) as training:
        training.graph.finalize()
        yield training


def test_the_session_and_its_graph_stay_as_they_were(tanh_net):
    graph, session = tanh_net.graph, tanh_net.session
    variables = graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    before = session.run(variables), graph.version, len(graph.get_operations())
    assert tanh_net.diagnose(steps=3).problem is None
    assert tanh_net.diagnose(with_nan(tanh_net)).cause == "inputs not finite"
    assert (graph.version, len(graph.get_operations())) == before[1:]
    for value, other in zip(session.run(variables), before[0]):
        assert value.tobytes() == other.tobytes()


def test_the_random_numbers_of_the_session_go_on_as_they_would():
    def losses(is_diagnosed):
        with Training(lambda x: tf.nn.dropout(tf.tanh(x), rate=0.5)) as training:
            found = [training.step()]
            if is_diagnosed:
                assert training.diagnose(steps=2).problem is None
            return found + [training.step(), training.step()]

    assert losses(True) == losses(False)


def test_names_do_as_well_as_tensors(tanh_net):
    feed = with_nan(tanh_net)
    found = diagnose(
        tanh_net.session,
        tanh_net.loss.op.name,
        {"x:0": feed[tanh_net.x], "y": feed[tanh_net.y]},
        train_op=tanh_net.train.name,
        fetches=[tanh_net.logits.name],
    )
    # tanh makes a number of NaN on 1.13.
    assert found.problem == "the loss is nan" or found.findings[-1].cause == "NaN hidden"
    assert found.findings[0].row == 3


def test_variables_of_another_time_are_taken_by_name_or_by_variable(tanh_net):
    bad = np.full([10], np.inf, np.float32)
    for key in ("output/bias", "output/bias:0"):
        found = tanh_net.diagnose(variables={key: bad})
        assert found.problem == "the loss is nan"
    with tanh_net.graph.as_default():
        variable = [v for v in tf.trainable_variables() if v.op.name == "output/bias"][0]
        assert tanh_net.diagnose(variables={variable: bad}).problem == "the loss is nan"
        if hasattr(variable, "ref"):
            assert tanh_net.diagnose(variables={variable.ref(): bad}).problem == "the loss is nan"
    assert tanh_net.diagnose(steps=1).problem is None


def test_a_sparse_placeholder_is_fed_as_a_whole():
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.sparse_placeholder(tf.float32, [None, 4])
        w = tf.get_variable("w", [4, 2])
        loss = tf.reduce_sum(tf.sparse_tensor_dense_matmul(x, w) ** 2)
        train = tf.train.GradientDescentOptimizer(0.01).minimize(loss)
        session.run(tf.global_variables_initializer())
        value = tf.SparseTensorValue([[0, 1], [1, 2]], [1.0, np.nan], [2, 4])
        found = diagnose(session, loss, {x: value}, train_op=train)
        assert found.cause == "inputs not finite"
        healthy = tf.SparseTensorValue([[0, 1], [1, 2]], [1.0, 2.0], [2, 4])
        assert diagnose(session, loss, {x: healthy}, train_op=train, steps=2).problem is None


def test_what_is_not_fed_is_read_from_the_pipeline():
    images = IMAGES[:12].copy()
    images[9, 2] = np.inf
    with tf.Graph().as_default(), tf.Session() as session:
        data = tf.data.Dataset.from_tensor_slices((images, LABELS[:12])).batch(6)
        x, y = tf.data.make_one_shot_iterator(data).get_next()
        w = tf.get_variable("w", [64, 10])
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=x @ w)
        loss = tf.reduce_mean(losses)
        train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        session.run(tf.global_variables_initializer())
        first = diagnose(session, loss, train_op=train, steps=2)
        assert first.problem is None
        assert "one batch was read from the pipeline: `IteratorGetNext:0`" in first.how
        second = diagnose(session, loss, train_op=train, steps=2)
        assert second.problem == "the loss is nan"
        assert second.findings[0].row == 3
        with pytest.raises(ValueError, match="what the input pipeline gives no more, got nothing"):
            diagnose(session, loss, train_op=train)
        given = {x: images[:2], y: LABELS[:2]}
        assert "pipeline" not in diagnose(session, loss, given, train_op=train, steps=2).how


def test_a_monitored_session_runs_no_hooks():
    class Counter(tf.train.SessionRunHook):
        runs = 0

        def before_run(self, run_context):
            self.runs += 1

    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 2], "x")
        loss = tf.reduce_mean((x @ tf.get_variable("w", [2, 1])) ** 2)
        step = tf.train.get_or_create_global_step()
        train = tf.train.AdamOptimizer(0.1).minimize(loss, step)
        counter = Counter()
        with tf.train.MonitoredTrainingSession(hooks=[counter]) as session:
            session.run(train, {x: np.ones([1, 2])})
            found = diagnose(session, loss, {x: [[1.0, np.nan]]}, train_op=train)
            assert found.cause == "inputs not finite"
            assert counter.runs == 1
            assert session.run(step, {x: np.ones([1, 2])}) == 1


def test_a_loss_of_several_entries_counts_as_their_sum():
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [3], "x")
        loss = tf.get_variable("w", initializer=[1.0, 2.0, 3.0]) * tf.log(x)
        train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        session.run(tf.global_variables_initializer())
        assert diagnose(session, loss, {x: [1.0, 2.0, 3.0]}, train_op=train).problem is None
        found = diagnose(session, loss, {x: [1.0, 2.0, 0.0]}, train_op=train)
        assert found.problem == "the loss is -inf"
        assert found.cause == "log of 0"


def test_a_step_that_ends_with_an_error():
    with Training() as training:
        feed = training.feed()
        feed[training.y] = feed[training.y] + 9
        found = training.diagnose(feed)
    assert found.problem.startswith("the step ends with an error: Received a label value of")
    assert found.reproduced


def test_an_error_whose_data_are_lost_is_judged_by_its_words():
    with Training() as training:
        message = "Received a label value of 12 which is outside the valid range of [0, 10)."
        step = Step(7, {}, training.values(), None, message)
        found = diagnose_step(training.program, step)
    assert found.cause == "labels out of range"
    assert found.findings[0].numbers == {"label": 12, "num_classes": 10}
    assert found.how == "not at all, since its data are lost: `x:0`, `y:0`"
    assert not found.reproduced


def test_numbers_that_depend_on_what_is_fetched_are_told():
    """Fetched alone, grappler makes log_softmax of it, and there is nothing to see."""
    with Training(loss=log_of_softmax) as training:
        bias = np.zeros(10, np.float32)
        bias[3] = 200
        training.load(output__bias=bias)
        found = training.diagnose()
        alone = training.session.run(training.loss, training.feed())
    assert found.problem == "the loss is nan"  # 0 times the log of 0
    assert found.cause == "log of 0"
    assert found.reproduced
    if np.isfinite(alone):
        assert "The loss depends on what is fetched, since grappler rewrites it" in found.how
        assert f"{alone:.6g} with grappler, the loss fetched alone" in found.how
        assert "nan with grappler, the loss and its gradients fetched" in found.how
    else:
        assert "depends" not in found.how


def test_a_model_in_loops_and_branches():
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [5, 4], "x")
        w = tf.get_variable("w", [4, 4], initializer=tf.orthogonal_initializer(seed=3))

        def more(number, state):
            return number + 1, tf.tanh(state @ w + x[number])

        state = tf.while_loop(lambda number, _: number < 5, more, (0, tf.zeros([1, 4])))[1]
        loss = tf.cond(tf.reduce_sum(x) > 0, lambda: tf.reduce_sum(state**2), lambda: 0.0)
        train = tf.train.AdagradOptimizer(0.1).minimize(loss)
        session.run(tf.global_variables_initializer())
        data = np.ones([5, 4], np.float32)
        assert diagnose(session, loss, {x: data}, train_op=train, steps=2).problem is None
        data[3, 1] = np.nan
        data[0, 0] = 1e3
        found = diagnose(session, loss, {x: np.where(data == data, data, 1)}, train_op=train)
        assert found.problem is None


def test_variables_without_a_value():
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [2], "x")
        w = tf.get_variable("w", [2])
        loss = tf.reduce_sum(w * x)
        train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        with pytest.raises(ValueError, match="must have initialised variables, got `w` without"):
            diagnose(session, loss, {x: [1.0, 2.0]}, train_op=train)
        given = {w: [3.0, 4.0]}
        found = diagnose(session, loss, {x: [1.0, 2.0]}, train_op=train, variables=given, steps=2)
        assert found.problem is None


WRONG = {
    "session": (dict(session="here"), TypeError, "`session` must be a tf.Session, got str"),
    "loss": (dict(loss="lost"), ValueError, "`loss` must be a tensor of the session's graph"),
    "loss of another graph": (dict(loss=None), TypeError, "`loss` must be a tensor"),
    "labels as loss": (dict(loss="y:0"), TypeError, "must be of a floating type, got int64"),
    "train_op": (dict(train_op="trains"), ValueError, "`train_op` must be a tensor or an op"),
    "fetches": (dict(fetches=["what"]), ValueError, "`fetches` must be a tensor or an op"),
    "steps": (dict(steps=0), ValueError, "`steps` must be at least 1, got 0"),
    "feed_dict": (dict(feed_dict=[1]), TypeError, "`feed_dict` must be a dict, got list"),
    "a key": (dict(feed_dict={"z": 1}), ValueError, "`feed_dict` must be a tensor of"),
    "nothing fed": (dict(feed_dict={}), ValueError, "got nothing for `x:0`, `y:0`"),
    "a shape": (dict(feed_dict={"x": np.ones([2, 3])}), ValueError, r"got \[2, 3\]"),
    "a value": (dict(feed_dict={"x": "abc"}), ValueError, "`x:0` values of float32, got str"),
    "a variable": (dict(variables={"v": 1}), ValueError, "variables that the training uses"),
    "its shape": (dict(variables={"output/bias": [1.0]}), ValueError, r"got \[1\] for"),
    "variables": (dict(variables=3), TypeError, "`variables` must be a dict, got int"),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_wrong_arguments_are_told_in_one_line(tanh_net, name):
    changed, error, message = WRONG[name]
    arguments = dict(
        session=tanh_net.session,
        loss=tanh_net.loss,
        feed_dict=tanh_net.feed(),
        train_op=tanh_net.train,
    )
    with pytest.raises(error, match=message) as raised:
        diagnose(**{**arguments, **changed})
    assert str(raised.value).startswith("diagnose: ")
    assert "\n" not in str(raised.value)
