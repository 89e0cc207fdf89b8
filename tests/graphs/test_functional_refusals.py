"""Loops that cannot become functional: a RewriteError that says why, and nothing is changed."""

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.corpus.reading import entries
from tests.support.graph_files import contents
from tests.support.v1_loops import needs_while, v1_control_flow
from tf1xent import cli, graphs
from tf1xent.errors import GraphFileError, RewriteError

pytestmark = needs_while


def graph_def_of(build):
    with v1_control_flow(), tf.Graph().as_default() as graph:
        tf.set_random_seed(1)
        x = tf.placeholder_with_default([1.0, 2.0], [2], name="x")
        tf.identity(build(x), name="y")
        return graph.as_graph_def()


def loop(x):
    scale = tf.constant(0.5, name="scale")
    return tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, tf.sin(y) * scale), (0, x))[1]


def two_loops(x):
    return loop(loop(x))


def array(x):
    return tf.map_fn(tf.sin, x)


def branch_in_loop(x):
    def body(turn, y):
        return turn + 1, tf.cond(turn > 0, lambda: tf.sin(y), lambda: y)

    return tf.while_loop(lambda turn, _: turn < 2, body, (0, x))[1]


def noisy_loop(x):
    def body(turn, y):
        return turn + 1, y * tf.random.uniform([2], seed=3)

    return tf.while_loop(lambda turn, _: turn < 2, body, (0, x))[1]


def gradient_of_noisy_loop(x):
    return tf.gradients(noisy_loop(x), x)[0]


def functional(graph_def):
    return graphs.rewrite_graph_def(graph_def, "keep", loops="functional")


# --- Graphs that are changed by hand --------------------------------------------------------------


def node(graph_def, op, number=0):
    return [n for n in graph_def.node if n.op == op][number]


def two_conditions_in_a_frame(graph_def):
    for enter in graph_def.node:
        if enter.op == "Enter":
            enter.attr["frame_name"].s = b"one"


def a_reference(graph_def):
    node(graph_def, "Enter", 1).op = "RefEnter"


def a_value_of_the_first_turn(graph_def):
    (enter,) = [n for n in graph_def.node if n.op == "Enter" and n.attr["is_constant"].b]
    enter.attr["is_constant"].b = False


def a_result_that_is_no_variable(graph_def):
    new = graph_def.node.add(name="odd", op="Exit", input=[node(graph_def, "Sin").name])
    new.attr["T"].type = tf.float32.as_datatype_enum


def a_tensor_from_outside(graph_def):
    node(graph_def, "Sin").input[0] = "x"


def a_merge_of_other_things(graph_def):
    (following,) = [n for n in graph_def.node if n.name == "while/NextIteration_1"]
    following.op = "Identity"


def another_use_of_a_flow(graph_def):
    flow = [n for n in graph_def.node if n.op == "TensorArrayWriteV3"][0]
    (following,) = [n for n in graph_def.node if flow.name in n.input]
    new = graph_def.node.add(name="odd", op="Neg", input=[flow.name])
    new.attr["T"].type = tf.float32.as_datatype_enum
    following.input[0] = "odd"


def a_branch_of_two_predicates(graph_def):
    inner = [n for n in graph_def.node if n.op == "Switch" and n.name.startswith("while/cond/Sin")]
    inner[0].input[1] = "while/Less"


CHANGES = [
    (two_loops, two_conditions_in_a_frame, "2 LoopCond ops, not one"),
    (loop, a_reference, "is of the op RefEnter"),
    (loop, a_value_of_the_first_turn, "enters it for its first turn only"),
    (loop, a_result_that_is_no_variable, "`while/Sin` leaves it, and is no loop variable"),
    (loop, a_tensor_from_outside, "`while/Sin` is read in it, and is not handed in"),
    (array, another_use_of_a_flow, "`odd`, Neg, uses a TensorArray"),
    (branch_in_loop, a_branch_of_two_predicates, "one predicate must decide"),
]


@pytest.mark.parametrize(
    ("build", "change", "reason"), CHANGES, ids=[change.__name__ for _, change, _ in CHANGES]
)
def test_what_is_not_understood_is_refused(build, change, reason, tmp_path, capsys):
    graph_def = graph_def_of(build)
    change(graph_def)
    before = tf.GraphDef.FromString(graph_def.SerializeToString())
    with pytest.raises(RewriteError, match=re.escape(reason)) as error:
        functional(graph_def)
    assert "cannot become functional" in str(error.value) and "Use `loops`" in str(error.value)
    assert graph_def == before
    path = tmp_path / "graph.pb"
    path.write_bytes(graph_def.SerializeToString())
    there = contents(tmp_path)
    assert cli.main(["rewrite", str(path), str(tmp_path / "new"), "--loops", "functional"]) == 2
    assert reason in capsys.readouterr().err and contents(tmp_path) == there


# --- Random numbers -------------------------------------------------------------------------------


def test_random_numbers_of_a_loop_are_drawn_once():
    graph_def = graph_def_of(gradient_of_noisy_loop)
    reason = "RandomUniform` in it must not run twice, and a gradient that is recorded"
    with pytest.raises(RewriteError, match=reason):
        functional(graph_def)


def test_random_numbers_of_a_loop_without_recorded_gradient():
    graph_def = graph_def_of(noisy_loop)
    rewritten = functional(graph_def)
    assert [n for n in rewritten.node if n.op == "While"]  # not StatelessWhile
    drawn = []
    for one in (graph_def, rewritten):
        with tf.Graph().as_default() as graph, tf.Session() as session:
            tf.import_graph_def(one, name="")
            y, x = (graph.get_tensor_by_name(name) for name in ("y:0", "x:0"))
            gradient = tf.gradients(y, x)[0] if one is rewritten else y
            drawn.append(session.run([y, y / gradient]))
    np.testing.assert_allclose(drawn[1][1], [1.0, 2.0], rtol=1e-6)  # one draw for both
    np.testing.assert_array_equal(drawn[0][0], drawn[1][0])


# --- Damaged graphs -------------------------------------------------------------------------------

OPS = ("Enter", "Exit", "Merge", "Switch", "NextIteration", "LoopCond", "Identity", "NoOp", "If")


def damaged(graph_def, generator):
    """A copy with up to three nodes of loops and branches changed at random."""
    copy = tf.GraphDef.FromString(graph_def.SerializeToString())
    inside = [n for n in copy.node if "while" in n.name or "cond" in n.name]
    for _ in range(generator.randint(1, 4)):
        chosen, other = (inside[generator.randint(len(inside))] for _ in range(2))
        kind = generator.randint(5)
        if kind == 0:
            chosen.op = OPS[generator.randint(len(OPS))]
        elif kind == 1:
            chosen.input.append(other.name)
        elif kind == 2:
            chosen.ClearField("attr")
        elif chosen.input:
            place = generator.randint(len(chosen.input))
            if kind == 3:
                del chosen.input[place]
            else:
                chosen.input[place] = other.name
    return copy


@pytest.mark.parametrize("name", ["tf113-tagger", "tf115-branch_in_loop"])
def test_damaged_loops_are_rewritten_or_refused(name):
    (entry,) = [entry for entry in entries() if entry.id == name]
    graph_def, generator = entry.load_graph_def(), np.random.RandomState(0)
    refused = 0
    for _ in range(30):
        try:
            functional(damaged(graph_def, generator))
        except (GraphFileError, RewriteError) as error:
            assert str(error).startswith("rewrite_graph_def: `graph_def`: ")
            refused += 1
    assert 0 < refused < 30
