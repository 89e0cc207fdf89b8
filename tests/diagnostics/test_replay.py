"""Replay: a step that runs again is the program's own, bit by bit, and leaves nothing behind."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics import programs
from tests.diagnostics.programs import Built, descent, inputs, mean_loss, ran, weights
from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.replaying.replay import Replay
from tf1xent.diagnostics.replaying.step import Step


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph, programs.control_flow_v2(False):
        yield graph


def check_the_same_step(build):
    found = ran(build)
    names = list(found.gradients)
    with Replay(found.program) as replay:
        again = replay.run(found.step, keep=names)
        updated = replay.run(found.step, update=True)
    assert again.error is None and updated.error is None
    same_bits(again.loss, found.loss)
    for name in names:
        same_bits(again.kept[name][-1], found.gradients[name])
    assert set(updated.variables) == set(found.variables)
    for name, value in found.variables.items():
        same_bits(updated.variables[name], value)
    return found, again


def same_bits(got, want):
    assert np.asarray(got).dtype == np.asarray(want).dtype
    assert np.asarray(got).tobytes() == np.asarray(want).tobytes()


@pytest.mark.parametrize("build", programs.PROGRAMS, ids=programs.named)
def test_a_step_again_is_the_step(build):
    found, again = check_the_same_step(build)
    changed = [n for n in found.program.trainable if n in found.variables]
    assert changed and all(
        (found.variables[name] != found.step.variables[name]).any() for name in changed
    )
    # Everything was taken down, and inputs before what is computed from them.
    names = [record.name for record in again.records]
    assert names.index(found.program.loss.name) > len(names) / 4


@pytest.mark.skipif(not programs.IN_FUNCTIONS, reason="this TensorFlow has no v2 control flow")
@pytest.mark.parametrize("build", programs.IN_FUNCTIONS, ids=programs.named)
def test_a_step_again_with_loops_and_branches_in_functions(build):
    with programs.control_flow_v2(True):
        _, again = check_the_same_step(build)
    inside = [record for record in again.records if "while_body" in record.name]
    assert build is programs.conditional_update or {r.round for r in inside} >= {0, 1, 2}


@pytest.mark.skipif(not programs.TRACED, reason="this TensorFlow has no tf.function")
@pytest.mark.parametrize("build", programs.TRACED, ids=programs.named)
def test_a_step_again_with_traced_functions(build):
    check_the_same_step(build)


def test_nothing_is_printed_or_checked(capfd):
    found = ran(programs.noisy)
    assert "a batch of logits" in capfd.readouterr().err
    bad = dict(found.step.variables, w=np.full([64, 10], np.inf, np.float32))
    with Replay(found.program) as replay:
        again = replay.run(found.step._replace(variables=bad), update=True)
    assert capfd.readouterr() == ("", "")
    # The program's own checks would have ended the run.
    assert again.error is None and not np.isfinite(again.loss)


def test_variables_change_after_all_that_reads_them():
    def build():
        x, y, feeds = inputs()
        w = weights("w", [64, 10])
        loss = mean_loss(x @ w, y) + tf.nn.l2_loss(w)
        # Nothing of the program says whether the decay comes before the loss.
        return Built(loss, tf.group(tf.assign_sub(w, 0.9 * w), descent(loss)), feeds)

    found = ran(build)
    step = found.step._replace(variables=dict(found.step.variables, w=np.ones([64, 10], "f")))
    with Replay(found.program) as replay:
        losses = [replay.run(step, update=update).loss for update in (False, True, True, True)]
    np.testing.assert_array_equal(losses, losses[0])
    assert losses[0] > 320


def test_records_of_a_loop_come_round_by_round():
    found = ran(programs.recurrent)
    with Replay(found.program) as replay:
        recording = replay.run(found.step)
    (name,) = {r.name for r in recording.records if r.name.endswith("/Tanh:0")}
    rounds = recording.of(name)
    assert [record.round for record in rounds] == list(range(8))
    assert all(record.shape == (12, 10) and not record.is_bad for record in rounds)
    inside = [r for r in recording.records if r.name.startswith("scan/while/") and r.round < 8]
    (product,) = {r.name for r in inside if r.op_type == "MatMul"}
    order = [(r.round, r.name == name) for r in inside if r.name in (name, product)]
    assert order == [(n, last) for n in range(8) for last in (False, True)]


def test_the_numbers_of_a_record():
    value = tf.placeholder(tf.float32, [2, 3], "value")
    v = weights("v", [], initializer=tf.ones_initializer())
    loss = tf.reduce_mean(value * v)
    program = Program(tf.get_default_graph(), loss, descent(loss))
    array = np.array([[0.0, 3.0, -5.0], [np.inf, np.nan, 0.0]], np.float32)
    step = Step(None, {"value:0": array}, {"v": np.float32(1)})
    with Replay(program) as replay:
        (record,) = replay.run(step).of("value:0")
        (variable,) = replay.run(step).of("v:0")
    assert record[:4] == ("value:0", "Placeholder", "float32", (2, 3))
    assert (record.nans, record.infinities, record.zeros) == (1, 1, 2)
    assert (record.smallest, record.largest, record.first_bad) == (-5.0, 3.0, (1, 0))
    assert variable.op_type == "VariableV2"


def test_a_cure_is_tried_in_a_loop():
    found = ran(programs.recurrent)
    with Replay(found.program) as replay:
        (name,) = {r.name for r in replay.run(found.step).records if r.name.endswith("/Tanh:0")}
    with Replay(found.program, {name: np.zeros_like}) as cured:
        recording = cured.run(found.step)
    # The states stay 0: all classes are alike.
    np.testing.assert_allclose(recording.loss, np.log(10), rtol=1e-6)
    assert len(recording.of(name)) == 8 and not all(r.zeros == 120 for r in recording.of(name))


def test_other_values_of_a_variable():
    found = ran(programs.relu_net)
    with Replay(found.program, {"w:0": np.zeros_like}) as replay:
        np.testing.assert_allclose(replay.run(found.step).loss, np.log(10), rtol=1e-6)


def test_a_name_that_is_not_computed_is_refused():
    found = ran(programs.relu_net)
    tf.constant(1.0, name="elsewhere")
    with pytest.raises(ValueError, match="Replay: `replaced` must name tensors .* 'nowhere:0'"):
        Replay(found.program, {"nowhere:0": np.zeros_like})


def test_data_that_the_step_lacks_are_asked_for():
    found = ran(programs.pipeline)
    feeds = {n: v for n, v in found.step.feeds.items() if n != "IteratorGetNext:0"}
    with Replay(found.program) as replay:
        with pytest.raises(ValueError, match="must hold all data .* got no IteratorGetNext:0"):
            replay.run(found.step._replace(feeds=feeds))


def test_errors_end_up_in_the_recording():
    found = ran(programs.relu_net)
    feeds = dict(found.step.feeds, **{"y:0": np.full(12, 10)})
    with Replay(found.program) as replay:
        recording = replay.run(found.step._replace(feeds=feeds))
        assert recording.loss is None
        assert "Received a label value of 10" in recording.error
        # What was there before stands in the recording, and the next step runs.
        assert any(record.op_type == "MatMul" for record in recording.records)
        assert replay.run(found.step).error is None


@pytest.mark.skipif(not hasattr(tf, "lookup"), reason="this TensorFlow has no tf.lookup")
def test_a_table_that_cannot_be_filled_is_said():
    x, y, feeds = inputs()
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.placeholder(tf.int64, [1]), tf.constant([2.0])
    )
    factor = tf.lookup.StaticHashTable(initializer, 1.0).lookup(y[0])
    loss = mean_loss(x @ weights("w", [64, 10]), y) * factor
    program = Program(tf.get_default_graph(), loss, descent(loss))
    step = Step(1, {t.name: v for t, v in feeds.items()}, {"w": np.zeros([64, 10], np.float32)})
    with Replay(program) as replay:
        assert "A lookup table cannot be filled" in replay.run(step).error


def test_only_what_the_step_needs_has_a_probe():
    def build():
        built = programs.relu_net()
        tf.sqrt(built.loss, name="for_a_summary")
        return built

    found = ran(build)
    with Replay(found.program) as replay:
        names = {op.name for op in replay.graph.get_operations()}
        recording = replay.run(found.step)
    assert "for_a_summary" not in names and "w/Initializer/random_uniform/max" not in names
    assert not recording.of("for_a_summary:0") and recording.of("Relu:0")


def test_values_of_any_type():
    def build():
        x, y, feeds = inputs()
        shifted = tf.add(y, 1, "shifted")
        loss = mean_loss(x @ weights("w", [64, 10]), shifted - 1)
        return Built(loss, descent(loss), feeds)

    found = ran(build)
    with Replay(found.program) as replay:
        recording = replay.run(found.step)
        (labels,) = replay.values(found.step, ["shifted:0"])
        np.testing.assert_array_equal(labels, programs.LABELS + 1)
        assert replay.values(found.step, ["nowhere:0"]) is None
    assert any(record.op_type == "MatMul" for record in recording.records)


def test_the_program_stays_as_it_is():
    found = ran(programs.branches)
    graph = tf.get_default_graph()
    before = graph.as_graph_def().SerializeToString(deterministic=True)
    graph.finalize()
    with Replay(Program(graph, found.program.loss)) as replay:
        replay.run(found.step, update=True)
    assert graph.as_graph_def().SerializeToString(deterministic=True) == before


def test_nothing_is_left_after_close():
    found = ran(programs.relu_net)
    replay = Replay(found.program)
    recording = replay.run(found.step)
    left = [weakref.ref(thing) for thing in (replay, replay.graph, replay._functions[0])]
    replay.close()
    del replay
    gc.collect()
    assert [reference() for reference in left] == [None, None, None]
    assert recording.records
