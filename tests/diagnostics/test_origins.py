"""Evidence: where numbers that are not finite come from, and what is dropped again."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics import programs
from tests.diagnostics.programs import Built, descent, inputs, mean_loss, ran, weights
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.replaying.replay import Replay
from tf1xent.diagnostics.replaying.step import no_history

BOTH = [False, True] if programs.HAS_CONTROL_FLOW_V2 else [False]


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph, programs.control_flow_v2(False):
        yield graph


def evidence_of(build, feeds=None, variables=None):
    """Runs a step of a program again, with other data or variables."""
    found = ran(build)
    step = found.step
    step = step._replace(feeds=dict(step.feeds, **(feeds or {})))
    step = step._replace(variables=dict(step.variables, **(variables or {})))
    with Replay(found.program) as replay:
        return Evidence(found.program, step, no_history(), replay)


def kinds(origins):
    """What a list of origins says, without the names that TensorFlows give."""
    return [(o.record.op_type, o.record.round, o.in_gradient, o.in_loss) for o in origins]


def changed(array, *entries):
    """A copy with other values: (index, value)."""
    copy = np.array(array)
    for index, value in entries:
        copy[index] = value
    return copy


def scored(score):
    """A program whose loss is made of its logits and labels by `score`."""

    def build():
        x, y, feeds = inputs()
        loss = score(x, x @ weights("w", [64, 10]), y)
        return Built(loss, descent(loss), feeds)

    return build


def test_a_healthy_step_has_no_origins():
    evidence = evidence_of(programs.recurrent)
    assert evidence.origins == [] and evidence.dropped == []
    assert evidence.reproduced


def test_log_of_a_probability_that_is_0():
    def score(x, logits, y):
        return -tf.reduce_mean(tf.log(tf.nn.softmax(1e4 * logits)))

    evidence = evidence_of(scored(score))
    first = evidence.origins[0]
    assert kinds([first]) == [("Log", 0, False, True)]
    assert [record.op_type for record in first.inputs] == ["Softmax"]
    path = evidence.path(first)
    assert [record.op_type for record in path] == ["Log", "Mean", "Neg"]
    assert path[-1].name == evidence.program.loss.name
    # The gradient divides by the same 0.
    assert [o.in_gradient for o in evidence.origins[1:]] == [True]
    assert "test_origins.py:" in evidence.program.line_of(first.record.name)


def test_data_that_are_not_finite():
    images = changed(programs.IMAGES, ((3, 5), np.nan))
    evidence = evidence_of(programs.relu_net, feeds={"x:0": images})
    (origin,) = evidence.origins
    assert kinds([origin]) == [("Placeholder", 0, False, True)]
    assert origin.record.first_bad == (3, 5) and origin.inputs == []


@pytest.mark.parametrize("resource", [False, True], ids=["reference", "resource"])
def test_a_variable_that_is_not_finite(resource):
    def build():
        x, y, feeds = inputs()
        loss = mean_loss(x @ weights("w", [64, 10], resource), y)
        return Built(loss, descent(loss), feeds)

    bad = np.full([64, 10], np.inf, np.float32)
    evidence = evidence_of(build, variables={"w": bad})
    (origin,) = evidence.origins
    assert origin.record.name == "w:0"
    assert origin.record.op_type == ("VarHandleOp" if resource else "VariableV2")
    assert origin.in_loss


def test_rows_of_a_variable_that_are_not_finite():
    def build():
        words = tf.placeholder(tf.int64, [None], "words")
        table = weights("table", [16, 10], True)
        loss = mean_loss(tf.nn.embedding_lookup(table, words), tf.constant(programs.LABELS))
        return Built(loss, descent(loss), {words: programs.LABELS})

    table = np.zeros([16, 10], np.float32)
    evidence = evidence_of(build, variables={"table": changed(table, (3, np.nan))})
    assert [o.record.name for o in evidence.origins] == ["table:0"]
    # No example reads this row.
    evidence = evidence_of_unused_row(build, table)
    assert evidence.origins == []
    assert [o.record.name for o in evidence.dropped] == ["table:0"]


def evidence_of_unused_row(build, table):
    with tf.Graph().as_default():
        return evidence_of(build, variables={"table": changed(table, (15, np.nan))})


@pytest.mark.parametrize("v2", BOTH)
def test_the_round_of_a_loop(v2):
    def build():
        x, y, feeds = inputs()
        w = weights("w", [64, 10], True)

        def body(i, h):
            return i + 1, h + tf.log(5.0 - tf.cast(i, tf.float32)) + 0.0 * x @ w

        loss = mean_loss(tf.while_loop(lambda i, h: i < 8, body, [0, x @ w])[1], y)
        return Built(loss, descent(loss), feeds)

    with programs.control_flow_v2(v2):
        evidence = evidence_of(build)
    # log(0) in round 5; log(-1) in round 6 is the same tensor, which is bad for the first time
    # where nothing that it reads is.
    (origin,) = [o for o in evidence.origins if not o.in_gradient]
    assert kinds([origin]) == [("Log", 5, False, True)]
    assert origin.inputs[0].round == 5 and origin.inputs[0].largest == 0.0
    path = evidence.path(origin)
    assert path[0] is origin.record and path[-1].round == 0
    assert all(record.is_bad for record in path)


@pytest.mark.parametrize("v2", BOTH)
def test_a_branch_in_a_loop(v2):
    def build():
        x, y, feeds = inputs()
        w = weights("w", [64, 10], True)

        def body(i, h):
            bad = lambda: h + tf.sqrt(h - 1e3)  # noqa: E731
            return i + 1, tf.cond(tf.equal(i, 3), bad, lambda: h * 1.5)

        loss = mean_loss(tf.while_loop(lambda i, h: i < 6, body, [0, x @ w])[1], y)
        return Built(loss, descent(loss), feeds)

    with programs.control_flow_v2(v2):
        evidence = evidence_of(build)
    (origin,) = [o for o in evidence.origins if o.in_loss]
    assert kinds([origin]) == [("Sqrt", 0, False, True)]
    assert not origin.inputs[0].is_bad


@pytest.mark.parametrize("v2", BOTH)
def test_arrays_and_lists(v2):
    def build():
        x, y, feeds = inputs()
        w = weights("w", [64, 10], True)
        rows = tf.map_fn(lambda row: tf.log(tf.reduce_sum(row)) + row, x)
        logits = tf.scan(lambda total, row: 0.5 * total + row, rows)
        loss = mean_loss(logits @ w, y)
        return Built(loss, descent(loss), feeds)

    with programs.control_flow_v2(v2):
        evidence = evidence_of(build, feeds={"x:0": changed(programs.IMAGES, (4, 0.0))})
    (origin,) = evidence.origins
    assert kinds([origin]) == [("Log", 4, False, True)]
    assert evidence.path(origin)[-1].name in evidence.program.targets


@pytest.mark.parametrize("v2", BOTH)
def test_stacks_of_the_gradient(v2):
    """A value of the loop that only the gradient reads again, from the stack."""

    def build():
        x, y, feeds = inputs()
        w = weights("w", [64, 10], True)

        def body(i, h):
            return i + 1, h + tf.sqrt(tf.square(h) * 0.0) + 0.1

        loss = mean_loss(tf.while_loop(lambda i, h: i < 3, body, [0, x @ w])[1], y)
        return Built(loss, descent(loss), feeds)

    with programs.control_flow_v2(v2):
        evidence = evidence_of(build)
    assert np.isfinite(evidence.recording.loss)
    assert {(o.record.op_type, o.in_gradient) for o in evidence.origins} == {("SqrtGrad", True)}
    (origin,) = evidence.origins
    assert origin.record.round == 0 and origin.inputs[0].zeros == 120


@pytest.mark.skipif(not hasattr(tf, "function"), reason="this TensorFlow has no tf.function")
def test_functions_that_are_called_twice():
    def build():
        x, y, feeds = inputs()
        w = weights("w", [64, 10], True)
        layer = tf.function(lambda a, b: tf.log(a @ b + 3.0))
        good = layer(x, tf.abs(w))
        loss = mean_loss(good + layer(x * 0.0, w) + layer(-x, tf.abs(w) * 1e3), y)
        return Built(loss, descent(loss), feeds)

    evidence = evidence_of(build)
    (origin,) = [o for o in evidence.origins if o.in_loss]
    # Only the third call has negative numbers; each call has records of its own.
    assert origin.record.op_type == "Log" and origin.inputs[0].smallest < 0
    logs = [r for r in evidence.recording.records if r.op_type == "Log"]
    assert [r.round for r in logs] == [0, 0, 0] and [r.is_bad for r in logs].count(True) == 1
    assert evidence.op(origin.record.name) is None
    assert "test_origins.py:" in evidence.program.line_of(origin.record.name)
    assert evidence.path(origin)[-1].name == evidence.program.loss.name


def test_what_a_where_drops():
    def score(x, logits, y):
        kept = tf.where(tf.ones_like(logits) > 0, logits, tf.log(tf.zeros_like(logits)))
        return mean_loss(kept, y)

    evidence = evidence_of(scored(score))
    assert evidence.origins == []
    assert ("Log", 0, False, False) in kinds(evidence.dropped)


def test_the_gradient_that_a_where_does_not_drop():
    def score(x, logits, y):
        above = tf.maximum(logits, 0.0) + 100.0
        return mean_loss(tf.where(above < 0, tf.exp(above), logits), y)

    evidence = evidence_of(scored(score))
    assert np.isfinite(evidence.recording.loss)
    # The gradient reads the infinity that the loss dropped, and multiplies it by 0.
    (origin,) = evidence.origins
    assert kinds([origin]) == [("Exp", 0, False, False)]
    assert evidence.dropped == []


def test_a_gradient_that_is_singular_by_itself():
    def score(x, logits, y):
        length = tf.sqrt(tf.reduce_sum(tf.square(logits * 0.0), 1))
        return mean_loss(logits, y) + tf.reduce_mean(length)

    evidence = evidence_of(scored(score))
    assert np.isfinite(evidence.recording.loss)
    (origin,) = evidence.origins
    assert kinds([origin]) == [("SqrtGrad", 0, True, False)]
    assert not any(record.is_bad for record in origin.inputs)


def test_a_mask_of_infinities_is_no_fault():
    def score(x, logits, y):
        mask = tf.where(tf.range(12) < 11, tf.zeros([12]), tf.fill([12], -np.inf))
        weight = tf.nn.softmax(mask)  # of examples
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
        return tf.reduce_sum(weight * losses)

    evidence = evidence_of(scored(score))
    assert evidence.origins == [] and len(evidence.dropped) >= 1
    assert not any(origin.in_loss for origin in evidence.dropped)


def test_only_the_term_that_is_bad():
    def score(x, logits, y):
        first = tf.reduce_mean(tf.sqrt(tf.abs(logits) + 1.0))
        second = tf.reduce_mean(tf.exp(1e3 * tf.abs(logits) + 1e3))
        return mean_loss(logits, y) + 0.1 * first + second

    evidence = evidence_of(scored(score))
    assert kinds(evidence.origins)[0] == ("Exp", 0, False, True)
    assert [o.in_loss for o in evidence.origins] == [True] + [False] * (len(evidence.origins) - 1)


def test_gradients_by_rows():
    def build():
        words = tf.placeholder(tf.int64, [None], "words")
        table = weights("table", [16, 10])
        rows = tf.nn.embedding_lookup(table, words)
        logits = rows / tf.norm(rows * 0.0, axis=1, keepdims=True)
        loss = mean_loss(tf.where(tf.is_finite(logits), logits, rows), tf.constant(programs.LABELS))
        return Built(loss, descent(loss, tf.train.AdamOptimizer()), {words: programs.LABELS})

    evidence = evidence_of(build)
    assert np.isfinite(evidence.recording.loss)
    first = evidence.origins[0]
    assert kinds([first])[0][0] == "RealDiv" and not first.in_loss
    assert evidence.path(first)[-1].name in evidence.program.targets[1:]


def test_a_variable_that_the_step_itself_makes_bad():
    def build():
        x, y, feeds = inputs()
        w = weights("w", [64, 10], True)
        moving = weights("moving", [], True, trainable=False, initializer=tf.ones_initializer())
        with tf.control_dependencies([moving.assign(tf.log(tf.reduce_sum(w) * 0.0))]):
            factor = moving.read_value()
        loss = mean_loss(x @ w, y) * factor
        return Built(loss, descent(loss), feeds)

    evidence = evidence_of(build)
    (origin,) = [o for o in evidence.origins if o.in_loss]
    assert origin.record.op_type == "Log"


def test_half_precision():
    evidence = evidence_of(programs.many_types, feeds={"x:0": programs.IMAGES * 1e5})
    assert kinds(evidence.origins)[0] in [("Placeholder", 0, False, True), ("Cast", 0, False, True)]
    assert evidence.origins[0].record.dtype == "float16"


def test_random_numbers_may_not_come_again():
    def score(x, logits, y):
        return mean_loss(logits, y) + 10.0 * tf.random_uniform([])

    found = ran(scored(score))
    with Replay(found.program) as replay:
        step = found.step
        assert Evidence(
            found.program, step._replace(loss=-5.0), no_history(), replay
        ).reproduced is (False)
        assert Evidence(
            found.program, step._replace(loss=None), no_history(), replay
        ).reproduced is (None)
    assert len(found.program.random_ops) == 1
