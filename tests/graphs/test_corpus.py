"""Every graph of the corpus: inspected, rewritten, run, and differentiated twice.

Each is imported once as it is and once for every way of rewriting it. What it answers is kept as
arrays, and compared with finite differences of the gradient of the graph as it is.
"""

import collections
import contextlib
import functools
import os
import pickle
import tempfile

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf

import tf1xent
from tests.corpus.reading import entries
from tests.support.processes import output_of
from tests.support.v1_loops import can_be_functional
from tf1xent import graphs
from tf1xent.graphs import Verdict

pytestmark = [pytest.mark.lengthy, pytest.mark.both_ends]

IS_TF1 = tensorflow.__version__.startswith("1.")
ENTRIES = {entry.id: entry for entry in entries() if entry.refusal() is None}
MODES = ("tag", "logsumexp")
# Whose graphs are differentiated as they are too, which takes long, to measure what it takes. Both
# writers run the same programs, but 1.13 has no gradient of AddV2, of 1.15.
WRITER = "tf113" if tensorflow.__version__.startswith("1.13.") else "tf115"
# TF 2.x keeps the functions of v2 loops and branches for the whole process, by names that do not
# tell one body from another. So these are differentiated only when rewritten, by "tag" in this
# process and by "logsumexp" in another; TF 1.x differentiates them as they are too.
COLLIDING = [] if IS_TF1 else [name for name in ENTRIES if name.endswith("_v2")]
# In increasing order of what it takes.
VERDICTS = (Verdict.AS_IT_IS, Verdict.OVERRIDE, Verdict.REWRITE, Verdict.UNSUPPORTED)
# The calls of these functions hold cross-entropy ops, and are inlined.
CALLING = ("defun", "defun_with_gradient", "tf_function")
# All is float64. Differences of the fourth order at 3e-4 leave 1e-10; twice over, for "defun", 1e-8
PRODUCT_TOLERANCE = 1e-8
# After "logsumexp": rounding of losses and gradients whose terms are of the order of 1.
VALUE_TOLERANCE = {"rtol": 1e-12, "atol": 1e-15}

UNOPTIMIZED = tf.ConfigProto()
UNOPTIMIZED.graph_options.rewrite_options.disable_meta_optimizer = True
# Arrays by name; the Hessian-vector products by kind, right away and after override_gradients().
Answers = collections.namedtuple("Answers", "values products overridden differences")
# What TensorFlow says instead of an answer.
Failure = collections.namedtuple("Failure", "error message")
ERRORS = (AssertionError, AttributeError, LookupError, TypeError, ValueError, tf.errors.OpError)

# What TensorFlow itself cannot differentiate: which gradient of which program, and its answer.
Limit = collections.namedtuple("Limit", "program kind error message")
LOOKUP = "LookupError", "No gradient defined"
LIMITS = (
    # No gradient of a v1 while loop can be differentiated: tf.gradients returns None.
    Limit("loop", "recorded", "NoGradientError", "None"),
    Limit("branch_in_loop", "recorded", "AttributeError", "no attribute 'outer_context'"),
)
# Unless the calls are inlined.
LIMITS_OF_CALLS = (
    Limit("defun", "loss", *LOOKUP),
    # Of a Defun's gradient in Python the file knows nothing; the recorded one is plain ops.
    Limit("defun_with_gradient", "loss", *LOOKUP),
    Limit("tf_function", "loss", *LOOKUP),
    # The call of a function's gradient.
    Limit("tf_function", "recorded", "NotFoundError", "No gradient defined for op"),
)
THROUGH_A_V1_LOOP = {
    ("loss", "TypeError", "Second-order gradient for while loops not supported."),
    ("loss", "AssertionError", ""),
    ("recorded", "AttributeError", "'NoneType' object has no attribute 'outer_context'"),
}


class NoGradientError(ValueError):
    """tf.gradients returned None."""


def program(entry):
    """Return the name of the program that wrote an entry."""
    return entry.id.split("-")[1]


def limit(entry, kind, limits):
    """Return the limit of TensorFlow that a product runs into, or None."""
    found = [one for one in limits if (one.program, one.kind) == (program(entry), kind)]
    return found[0] if found else None


def parameters_of(entry):
    """Return the parameters to differentiate by: all, but of a v1 loop only those behind it."""
    if program(entry) == "tagger":
        return [name for name in entry.parameters if name.startswith("logits/")]
    return entry.parameters


def is_measured(entry):
    """Tell whether an entry is differentiated as it is, and its verdict measured."""
    return entry.id.startswith(WRITER) and entry.id not in COLLIDING


@contextlib.contextmanager
def opened(entry, replacement):
    """Import an entry; yield its graph, session, and a function that restores the variables."""
    if entry.kind == "saved_model":
        with entry.open_in_session(replacement) as (graph, session, _):
            yield graph, session, lambda _: None
    else:
        # Optimized graphs and those that run as they are both occur, and the latter run faster.
        config = None if is_measured(entry) else UNOPTIMIZED
        with tf.Graph().as_default() as graph, tf.Session(config=config) as session:
            yield graph, session, entry.import_graph(replacement)


@contextlib.contextmanager
def overriding(is_wanted):
    """Put tf1xent's gradients in force for a while."""
    if is_wanted:
        tf1xent.override_gradients()
    try:
        yield
    finally:
        tf1xent.restore_gradients()


def attempt(function, *arguments):
    """Return what a function returns, or its Failure."""
    failed = [argument for argument in arguments if isinstance(argument, Failure)]
    if failed:
        return failed[0]
    try:
        return function(*arguments)
    except ERRORS as error:
        return Failure(type(error).__name__, str(error))


def gradients(targets, parameters, weights=None):
    """Return tf.gradients of a weighted sum, every one of which has to be there.

    Of first gradients, weighted by a direction, these are Hessian-vector products.
    """
    found = tf.gradients(targets, parameters, weights)
    if any(gradient is None for gradient in found):
        raise NoGradientError("None")
    return found


def derivative(function, point, direction, step=3e-4):
    """Differentiate by central differences of the fourth order."""
    found = [
        function([x + length * step * d for x, d in zip(point, direction)])
        for length in (1, -1, 2, -2)
    ]
    return [(8 * (a - b) - (c - d)) / (12 * step) for a, b, c, d in zip(*found)]


def gradient_by_differences(loss, point):
    """Return the gradient of a scalar loss, entry by entry."""
    found = [np.zeros_like(x) for x in point]
    for position, x in enumerate(point):
        for index in np.ndindex(*x.shape):
            unit = [np.zeros_like(other) for other in point]
            unit[position][index] = 1.0
            found[position][index] = derivative(loss, point, unit, step=3e-3)[0]
    return found


def differences(entry, session, first, parameters, directions):
    """Return the products again, by differences of the gradient of a graph as it is."""

    def run(tensors):
        def at(point):
            return session.run(tensors, {**entry.feed_dict(), **dict(zip(parameters, point))})

        return at

    point = session.run(parameters, entry.feed_dict())
    if program(entry) != "defun":
        return derivative(run(first), point, directions)
    # The call of a Defun, of which TensorFlow builds a gradient that cannot run.
    loss = run([entry.loss])
    return derivative(lambda p: gradient_by_differences(loss, p), point, directions, step=3e-3)


def build(graph, entry, names, with_new):
    """Return (parameters, directions, by kind: first gradients): recorded ones; new ones if none.

    Recorded gradients of a call may be plain ops: what it takes itself, only new ones tell.
    """
    generator = np.random.RandomState(0)
    parameters = [graph.get_tensor_by_name(name) for name in names]
    directions = [generator.randn(*parameter.shape.as_list()) for parameter in parameters]
    recorded = [entry.gradients[name] for name in names]
    first = {}
    if with_new or not all(recorded):
        first["loss"] = attempt(gradients, graph.get_tensor_by_name(entry.loss), parameters)
    if all(recorded):
        first["recorded"] = [graph.get_tensor_by_name(name) for name in recorded]
    return parameters, directions, first


def answers_of(entry, mode, replacement=None):
    """Import, differentiate and run one graph. Gradients come first: functional loops want that."""
    overrides = {"original": (False, True) if is_measured(entry) else (), "untag": (True,)}
    with opened(entry, replacement) as (graph, session, restore):
        names, with_new = parameters_of(entry), mode == "original" and program(entry) in CALLING
        parameters, directions, first = build(graph, entry, names, with_new)
        products = {}
        for is_overridden in overrides.get(mode, (False,)):
            with overriding(is_overridden):
                products[is_overridden] = {
                    kind: attempt(gradients, found, parameters, directions)
                    for kind, found in first.items()
                }
        restore(session)
        feed_dict = entry.feed_dict()
        recorded = [name for name in entry.gradients.values() if name is not None]
        names = sorted({entry.loss, *entry.fetches, *recorded, *entry.every_fetch(graph)})
        values = dict(zip(names, session.run(names, feed_dict)))
        for found in products.values():
            for kind, product in found.items():
                found[kind] = attempt(session.run, product, feed_dict)
        wanted = None
        if mode == "original":
            known = first["recorded" if "recorded" in first else "loss"]
            wanted = differences(entry, session, known, parameters, directions)
    return Answers(values, products.get(False), products.get(True), wanted)


def rewritten(entry, mode, folder):
    """Return what to open in the stead of an entry."""
    if mode == "original":
        return None
    if mode == "untag":
        return graphs.rewrite_meta_graph(rewritten(entry, "tag", folder), "untag")
    if entry.kind == "meta":
        return graphs.rewrite_meta_graph(entry.path, mode)
    if entry.kind == "graph_def":
        return graphs.rewrite_graph_def(entry.load_graph_def(), mode)
    target = os.path.join(folder, "rewritten")
    graphs.rewrite_saved_model(entry.path, target, mode)
    return target


def answers_here(entry, mode):
    """Return the answers of an entry in a mode."""
    with tempfile.TemporaryDirectory() as folder:
        return answers_of(entry, mode, rewritten(entry, mode, folder))


def write_answers(path):
    """Write the answers of COLLIDING without fused ops."""
    with open(path, "wb") as file:
        pickle.dump({name: answers_here(ENTRIES[name], "logsumexp") for name in COLLIDING}, file)


@functools.lru_cache(maxsize=None)
def answers_elsewhere():
    """Return what another process wrote."""
    code = "import sys, tests.graphs.test_corpus as t; t.write_answers(sys.argv[1])"
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "answers")
        output_of("-c", code, path)
        with open(path, "rb") as file:
            return pickle.load(file)


@functools.lru_cache(maxsize=None)
def answers(name, mode):
    """Return the answers of an entry in a mode, "original" and "untag" among them."""
    if name in COLLIDING and mode == "logsumexp":
        return answers_elsewhere()[name]
    return answers_here(ENTRIES[name], mode)


def is_right(name, found):
    """Tell whether products are there and agree with differences of the original's gradient."""
    wanted = answers(name, "original").differences
    return not isinstance(found, Failure) and all(
        np.abs(got - want).max() <= PRODUCT_TOLERANCE * np.abs(want).max()
        for got, want in zip(found, wanted)
    )


def check_products(entry, products, limits):
    """Check every product, or that TensorFlow fails as its limit says."""
    wanted = answers(entry.id, "original").differences
    assert products and min(np.abs(want).max() for want in wanted) > 1e-4
    for kind, found in products.items():
        expected = limit(entry, kind, limits)
        if expected is None:
            assert is_right(entry.id, found), (kind, found, wanted)
        else:
            assert isinstance(found, Failure), (kind, expected)
            assert found.error == expected.error and expected.message in found.message, found


parametrize_measured = pytest.mark.parametrize(
    "name", [name for name in ENTRIES if is_measured(ENTRIES[name])]
)


def rewritings():
    """Each entry of a writer in a mode by turns, on the newest in both; and the other writer's."""
    own = [name for name in ENTRIES if name.startswith(WRITER)]
    modes = [MODES[:: (-1) ** number] for number, _ in enumerate(own)]
    rest = [(name, second) for name, (_, second) in zip(own, modes)]
    rest += [(name, "logsumexp") for name in ENTRIES if not name.startswith(WRITER)]
    return [(name, first) for name, (first, _) in zip(own, modes)] + [
        pytest.param(*case, marks=pytest.mark.exhaustive) for case in rest
    ]


@pytest.mark.parametrize("name, mode", rewritings())
def test_hessian_vector_products_of_a_rewritten_graph(name, mode):
    check_products(ENTRIES[name], answers(name, mode).products, LIMITS)


@parametrize_measured
def test_hessian_vector_products_after_override_gradients(name):
    check_products(ENTRIES[name], answers(name, "original").overridden, LIMITS + LIMITS_OF_CALLS)


def test_inlined_calls_are_differentiated_twice_without_tags_too():
    name = WRITER + "-tf_function"
    found = answers(name, "untag")
    check_products(ENTRIES[name], found.overridden, LIMITS)
    for key, value in answers(name, "original").values.items():
        np.testing.assert_array_equal(found.values[key], value, err_msg=key)


@pytest.mark.parametrize("name, mode", rewritings())
def test_values_stay(name, mode):
    before = answers(name, "original").values
    assert before
    for key, value in before.items():
        found = answers(name, mode).values[key]
        if mode == "tag":
            np.testing.assert_array_equal(found, value, err_msg=key)
        else:
            np.testing.assert_allclose(found, value, err_msg=key, **VALUE_TOLERANCE)


def measured_verdict(entry):
    """Return what it takes until all products are right that TensorFlow sets no limit to."""
    original = answers(entry.id, "original")

    def all_right(products):
        kinds = [kind for kind in products if limit(entry, kind, LIMITS) is None]
        return bool(kinds) and all(is_right(entry.id, products[kind]) for kind in kinds)

    if all_right(original.products):
        return Verdict.AS_IT_IS
    if all_right(original.overridden):
        return Verdict.OVERRIDE
    if all(all_right(answers(entry.id, mode).products) for mode in MODES):
        return Verdict.REWRITE
    if program(entry) in ("loop", "branch_in_loop") and can_be_functional():
        return Verdict.REWRITE  # with functional loops: measured in test_functional_files.py
    return Verdict.UNSUPPORTED


def reported(entry):
    """Return the report's ops of an entry's own graph."""
    tags = None if entry.tags is None else "+".join(sorted(entry.tags))
    return [op for op in graphs.inspect_graph(entry.path).ops if op.graph == tags]


@parametrize_measured
def test_verdicts_are_true(name):
    entry = ENTRIES[name]
    found = [op.verdict for op in reported(entry)]
    assert max(found, key=VERDICTS.index) == measured_verdict(entry), found


def test_all_verdicts_occur():
    found = {op.verdict for entry in ENTRIES.values() for op in reported(entry)}
    # Where loops cannot become functional, those in them are unsupported.
    assert found == set(VERDICTS[:-1] if can_be_functional() else VERDICTS)


def test_tensorflow_has_no_second_derivative_through_a_v1_loop():
    entry = ENTRIES[WRITER + "-tagger"]
    assert set(parameters_of(entry)) < set(entry.parameters)
    with opened(entry, rewritten(entry, "logsumexp", None)) as (graph, _, _), overriding(True):
        parameters, directions, first = build(graph, entry, entry.parameters, with_new=True)
        assert set(first) == {"loss", "recorded"}
        for kind, found in first.items():
            product = attempt(gradients, found, parameters, directions)
            assert isinstance(product, Failure)
            assert (kind, product.error, product.message) in THROUGH_A_V1_LOOP


def test_what_shares_a_process_with_other_bodies_is_right_or_refused():
    if not COLLIDING:
        pytest.skip("TF 1.x keeps the functions of a graph with the graph")
    name = "tf115-loop_v2"
    assert answers(name, "tag").products
    # Whether names meet depends on how many were given before: on TF 2.21 they do, on 2.4 not.
    (found,) = answers_here(ENTRIES[name], "logsumexp").products.values()
    is_refused = "duplicate function" in getattr(found, "message", "")
    assert is_refused or is_right(name, found), found
