"""v1 loops and branches of a graph after a rewrite with `loops="functional"`.

All programs of `tests.support.v1_loops` are in one graph, once with the gradients that TensorFlow
records of v1 loops, once without. What the graph answers before is compared with what it answers
afterwards, Hessian-vector products with differences of its own first gradient.
"""

import collections
import functools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.support.v1_loops import PROGRAMS, UNOPTIMIZED, can_be_functional, v1_control_flow
from tf1xent import graphs
from tf1xent.graphs.functions import Library

pytestmark = pytest.mark.skipif(not can_be_functional(), reason="an error, tested elsewhere")

FEATURES = np.random.RandomState(0).randn(2, 4, 3)
POINT, DIRECTION = np.array([0.3, 0.2, 0.5]), np.array([0.2, 0.5, -0.3])
NAMES = [program.__name__ for program in PROGRAMS]
LOOPS = {"Enter", "Exit", "NextIteration", "LoopCond"}
V1_OPS = {*LOOPS, "Switch", "Merge"}

# By program: values, recorded gradients, new gradients, products; arrays.
Answers = collections.namedtuple("Answers", "values recorded gradients products")
Case = collections.namedtuple("Case", "before after want got")


def build(recorded=True):
    """Every program below its name, from `weights` to a `value` and a `loss`."""
    weights = tf.placeholder_with_default(POINT, [3], name="weights")
    features = tf.placeholder_with_default(FEATURES, [None, None, 3], name="features")
    losses = []
    for program in PROGRAMS:
        with tf.name_scope(program.__name__ + "/"):
            value = tf.identity(program(weights, features), name="value")
            losses.append(tf.reduce_sum(tf.square(value), name="loss"))
    for name, loss in zip(NAMES, losses if recorded else []):
        tf.identity(tf.gradients(loss, weights)[0], name=name + "/gradient")
    tf.group(tf.global_variables_initializer(), name="initialize")


def tensors(name):
    return [f"{program}/{name}:0" for program in NAMES]


@functools.lru_cache(maxsize=None)
def original():
    """The graph with recorded gradients, its answers, and differences."""
    with v1_control_flow(), tf.Graph().as_default() as graph:
        build()
    with graph.as_default(), tf.Session(config=UNOPTIMIZED) as session:
        session.run("initialize")
        values, recorded = session.run([tensors("value"), tensors("gradient")])

        def at(length):
            feed = {"weights:0": POINT + length * DIRECTION}
            return [np.array(gradient) for gradient in session.run(tensors("gradient"), feed)]

        points = [at(length) for length in (1e-3, -1e-3, 2e-3, -2e-3)]
        differences = [(8 * (a - b) - (c - d)) / 12e-3 for a, b, c, d in zip(*points)]
    return graph.as_graph_def(), Answers(values, recorded, recorded, differences)


def answers_of(graph_def):
    """The answers of a graph; with recorded gradients also the new derivatives."""
    recorded = any(node.name == NAMES[0] + "/gradient" for node in graph_def.node)
    with tf.Graph().as_default() as graph, tf.Session(config=UNOPTIMIZED) as session:
        tf.import_graph_def(graph_def, name="")
        weights = graph.get_tensor_by_name("weights:0")
        gradients, products = [], []
        for name in tensors("loss") if recorded else []:
            gradients += tf.gradients(graph.get_tensor_by_name(name), weights)
            products += tf.gradients(gradients[-1], weights, tf.constant(DIRECTION))
        session.run("initialize")
        fetches = [tensors("value"), tensors("gradient") if recorded else [], gradients]
        return Answers(*session.run(fetches), session.run(products))


@pytest.fixture(scope="module")
def recorded():
    """The graph with recorded gradients, before and after."""
    before, want = original()
    after = graphs.rewrite_graph_def(before, "keep", loops="functional")
    return Case(before, after, want, answers_of(after))


@pytest.fixture(scope="module")
def plain():
    """The graph without recorded gradients."""
    with v1_control_flow(), tf.Graph().as_default() as graph:
        build(recorded=False)
    before = graph.as_graph_def()
    after = graphs.rewrite_graph_def(before, "keep", loops="functional")
    return Case(before, after, original()[1], answers_of(after))


parametrize_programs = pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)


@parametrize_programs
def test_values_stay(recorded, plain, number):
    want = recorded.want.values[number]
    np.testing.assert_array_equal(recorded.got.values[number], want)
    np.testing.assert_array_equal(plain.got.values[number], want)


@parametrize_programs
def test_recorded_gradients_stay(recorded, number):
    want, got = recorded.want.recorded[number], recorded.got.recorded[number]
    np.testing.assert_array_equal(got, want)


@parametrize_programs
def test_new_gradients_and_hessian_vector_products(recorded, number):
    want, got = recorded.want, recorded.got
    np.testing.assert_allclose(got.gradients[number], want.gradients[number], rtol=1e-12)
    differences = want.products[number]
    largest = np.abs(differences).max()
    assert largest > 1e-2
    np.testing.assert_allclose(got.products[number], differences, rtol=0, atol=1e-8 * largest)


def test_without_recorded_gradients_nothing_of_v1_is_left(plain):
    left = [node.name for node in plain.after.node if node.op in V1_OPS]
    left += [node.name for node in plain.after.node if node.op.startswith("TensorArray")]
    assert left == []
    for function in plain.after.library.function:
        ops = {node.op for node in function.node_def}
        assert not ops & V1_OPS and not [op for op in ops if op.startswith("TensorArray")]
    ops = {node.op for node in plain.after.node}
    assert {"StatelessWhile", "StatelessIf", "TensorListGather"} <= ops


def test_recorded_gradients_keep_their_loops(recorded):
    """And no more: the new value of every loop comes from a functional copy."""
    frames = {n.attr["frame_name"].s for n in recorded.after.node if n.op == "Enter"}
    before = {n.attr["frame_name"].s for n in recorded.before.node if n.op == "Enter"}
    assert frames and frames <= before
    nodes = {node.name: node for node in recorded.after.node}
    pending = [name + "/loss" for name in NAMES]
    seen = set()
    while pending:
        name = pending.pop()
        seen.add(name)
        sources = [reference.split(":")[0].lstrip("^") for reference in nodes[name].input]
        pending += [source for source in sources if source not in seen]
    assert not [name for name in seen if nodes[name].op in LOOPS]


@pytest.mark.parametrize("kind", ["recorded", "plain"])
def test_names_outside_stay(kind, request):
    case = request.getfixturevalue(kind)
    depth = outside(case.before)
    there = {node.name for node in case.after.node}
    assert depth and depth - there == set()


def outside(graph_def):
    """The names of the nodes in no loop and no branch that are no ops of TensorArrays.

    Found by TensorFlow's own contexts, which it derives while a graph is built, not on import.
    """
    with v1_control_flow(), tf.Graph().as_default() as graph:
        build(recorded=any(node.name == NAMES[0] + "/gradient" for node in graph_def.node))
    found = {
        op.name
        for op in graph.get_operations()
        if op._get_control_flow_context() is None
        and not op.type.startswith(("TensorArray", "Exit", "Switch"))
    }
    assert {node.name for node in graph_def.node} == {op.name for op in graph.get_operations()}
    exits = {op.name for op in graph.get_operations() if op.type == "Exit"}
    flows = {op.name for op in graph.get_operations() if "TensorArray" in op.name}
    return found - flows | {name for name in exits if is_value(graph, name)}


def is_value(graph, exit_):
    """Whether an Exit in no loop hands out more than the flow of a TensorArray."""
    op = graph.get_operation_by_name(exit_)
    return op._get_control_flow_context() is None and op.outputs[0].dtype != tf.float32


def test_a_second_rewrite_changes_nothing(recorded, plain):
    for case in (recorded, plain):
        again = graphs.rewrite_graph_def(case.after, "keep", loops="functional")
        assert again == case.after


def test_the_rewrite_is_the_same_every_time(plain):
    assert graphs.rewrite_graph_def(plain.before, "keep", loops="functional") == plain.after


def test_every_function_is_used_and_none_is_missing(plain):
    library = Library(plain.after.library, "test")
    pending, used = list(plain.after.node), set()
    while pending:
        node = pending.pop()
        wanted = [node.attr[k].func.name for k in node.attr if node.attr[k].HasField("func")]
        for name in wanted:
            assert name in library.functions
            if name not in used:
                used.add(name)
                pending.extend(library.functions[name].node_def)
    assert used == set(library.functions)
