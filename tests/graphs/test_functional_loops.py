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

from tests.support.v1_loops import PROGRAMS, UNOPTIMIZED, needs_while, v1_control_flow
from tf1xent import graphs
from tf1xent.graphs.control_flow import contexts
from tf1xent.graphs.raw import NodeList
from tf1xent.graphs.wiring import Wiring

pytestmark = needs_while

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


def values_of(graph_def, names):
    with tf.Graph().as_default(), tf.Session(config=UNOPTIMIZED) as session:
        # A copy: TF 1.x adds attributes to what it imports.
        tf.import_graph_def(tf.GraphDef.FromString(graph_def.SerializeToString()), name="")
        session.run("initialize")
        return session.run(names)


def derivatives_of(graph_def, name):
    """The new gradient of a program, and the Hessian-vector product."""
    losses = [name + "/loss"]
    part = tf.graph_util.extract_sub_graph(graph_def, [*losses, "initialize"])
    used = {f.name for f in functions_of(part.node, graph_def)}
    functions = [f for f in graph_def.library.function if f.signature.name in used]
    del part.library.function[:]
    part.library.function.extend(functions)
    with tf.Graph().as_default() as graph, tf.Session(config=UNOPTIMIZED) as session:
        tf.import_graph_def(part, name="")
        weights = graph.get_tensor_by_name("weights:0")
        (gradient,) = tf.gradients(graph.get_tensor_by_name(losses[0] + ":0"), weights)
        (product,) = tf.gradients(gradient, weights, tf.constant(DIRECTION))
        session.run("initialize")
        return session.run([gradient, product])


def functions_of(nodes, graph_def):
    """The functions that nodes name, and that those name."""
    library = {f.signature.name: f for f in graph_def.library.function}
    pending, found = list(nodes), {}
    while pending:
        node = pending.pop()
        for key in node.attr:
            function = node.attr[key].func
            if function.name and function.name not in found:
                found[function.name] = function
                pending.extend(library[function.name].node_def)
    return found.values()


@pytest.fixture(scope="module")
def recorded():
    """The graph with recorded gradients, before and after."""
    before, want = original()
    after = graphs.rewrite_graph_def(before, "keep", loops="functional")
    values, gradients = values_of(after, [tensors("value"), tensors("gradient")])
    return Case(before, after, want, Answers(values, gradients, None, None))


@pytest.fixture(scope="module")
def plain():
    """The graph without recorded gradients."""
    with v1_control_flow(), tf.Graph().as_default() as graph:
        build(recorded=False)
    before = graph.as_graph_def()
    after = graphs.rewrite_graph_def(before, "keep", loops="functional")
    answers = Answers(values_of(after, tensors("value")), None, None, None)
    return Case(before, after, original()[1], answers)


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
    want = recorded.want
    gradient, product = derivatives_of(recorded.after, NAMES[number])
    np.testing.assert_allclose(gradient, want.gradients[number], rtol=1e-12)
    differences = want.products[number]
    largest = np.abs(differences).max()
    assert largest > 1e-2
    np.testing.assert_allclose(product, differences, rtol=0, atol=1e-8 * largest)


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
    wiring = Wiring(NodeList([n.SerializeToString() for n in case.before.node], ""), "")
    outside = {
        node.name
        for node, context in zip(case.before.node, contexts(wiring))
        if context is None and "TensorArray" not in node.op and not is_flow(node)
    }
    assert len(outside) > 100
    assert outside - {node.name for node in case.after.node} <= pivots(case.before)


def is_flow(node):
    """Whether an Exit hands out the flow of a TensorArray: all else is float64 or int32."""
    return node.op in ("Exit", "Identity") and node.attr["T"].type == tf.float32.as_datatype_enum


def pivots(graph_def):
    """The Switches of a predicate by itself, where nodes without inputs wait for their branch."""
    return {n.name for n in graph_def.node if n.op == "Switch" and len(set(n.input)) == 1}


def test_a_second_rewrite_changes_nothing(recorded, plain):
    for case in (recorded, plain):
        again = graphs.rewrite_graph_def(case.after, "keep", loops="functional")
        assert again == case.after


def test_the_rewrite_is_the_same_every_time(plain):
    assert graphs.rewrite_graph_def(plain.before, "keep", loops="functional") == plain.after


def test_every_function_is_used_and_none_is_missing(plain):
    used = {function.name for function in functions_of(plain.after.node, plain.after)}
    assert used == {function.signature.name for function in plain.after.library.function}
