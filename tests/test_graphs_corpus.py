"""Every graph of the corpus: inspected, rewritten, run, and differentiated twice.

Each is imported once as it is and once for every way of rewriting it. What it answers is kept as
arrays, and compared with finite differences of the gradient of the graph as it is.
"""

import collections
import contextlib
import functools
import os
import pickle
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf

import tf1xent
from tests.corpus.reading import FILES, entries
from tf1xent import graphs
from tf1xent.graphs import Verdict

ROOT = FILES.parent.parent.parent
IS_TF1 = tensorflow.__version__.startswith("1.")
IS_113 = tensorflow.__version__.startswith("1.13.")
ENTRIES = {entry.id: entry for entry in entries() if entry.refusal() is None}
MODES = ("tag", "logsumexp")
# Whose graphs get new gradients too when they are rewritten. To build them takes most of the time
# of these tests; both writers run the same programs, but 1.13 has no gradient of AddV2, of 1.15.
NEW_GRADIENTS = "tf113" if IS_113 else "tf115"
# In increasing order of what it takes.
VERDICTS = (Verdict.AS_IT_IS, Verdict.OVERRIDE, Verdict.REWRITE, Verdict.NOT)
# The calls of these functions hold cross-entropy ops, and are inlined.
CALLING = ("defun", "defun_with_gradient", "tf_function")
# All is float64. Differences of the fourth order at 3e-4 leave 1e-10; twice over, for "defun", 1e-8
PRODUCT_TOLERANCE = 1e-8
# After "logsumexp": rounding of losses and gradients whose terms are of the order of 1.
VALUE_TOLERANCE = {"rtol": 1e-12, "atol": 1e-15}

# Arrays by name; the Hessian-vector products by kind, right away and after override_gradients().
Answers = collections.namedtuple("Answers", "values products overridden differences")
# What TensorFlow says instead of an answer.
Failure = collections.namedtuple("Failure", "error message")
ERRORS = (AssertionError, AttributeError, LookupError, TypeError, ValueError, tf.errors.OpError)

# What TensorFlow itself cannot differentiate: where, its answer, and the reason.
Limit = collections.namedtuple("Limit", "where name kind error message reason")
# In whatever mode.
LIMITS = (
    Limit(IS_113, "tf115-loop", "loss", "LookupError", "AddV2", "1.13 has no gradient of AddV2"),
    Limit(IS_113, "tf115-distillation", "loss", "LookupError", "AddV2", "as in tf115-loop"),
    Limit(
        True,
        "loop",
        None,
        "NoGradientError",
        "None",
        "no gradient of a v1 while loop can be differentiated: tf.gradients returns None",
    ),
    Limit(
        IS_TF1,
        "tagger_v2",
        "loss",
        "ValueError",
        "Tried to convert 'tensor'",
        "TF 1.x builds no second derivative of this v2 while loop; the recorded one it does",
    ),
)
# Unless the calls are inlined.
LIMITS_OF_CALLS = (
    Limit(True, "defun", "loss", "LookupError", "No gradient defined", "the call of a Defun"),
    Limit(
        True,
        "defun_with_gradient",
        "loss",
        "LookupError",
        "No gradient defined",
        "of a Defun's gradient in Python the file knows nothing; the recorded one is plain ops",
    ),
    Limit(
        True,
        "tf_function",
        "loss",
        "LookupError",
        "No gradient defined",
        "the call of a function",
    ),
    Limit(
        True,
        "tf_function",
        "recorded",
        "NotFoundError",
        "No gradient defined for op",
        "the call of a function's gradient",
    ),
)
THROUGH_A_V1_LOOP = {
    "loss": [
        ("TypeError", "Second-order gradient for while loops not supported."),
        ("AssertionError", ""),
    ],
    "recorded": [("AttributeError", "'NoneType' object has no attribute 'outer_context'")],
}


class NoGradientError(ValueError):
    """tf.gradients returned None."""


def program(entry):
    """Return the name of the program that wrote an entry."""
    return entry.id.split("-")[1]


def limit(entry, kind, limits):
    """Return the limit of TensorFlow that a product runs into, or None."""
    names = entry.id, program(entry)
    found = [one for one in limits if one.where and one.name in names and one.kind in (None, kind)]
    return found[0] if found else None


def parameters_of(entry):
    """Return the parameters to differentiate by: all, but of a v1 loop only those behind it."""
    if program(entry) == "tagger":
        return [name for name in entry.parameters if name.startswith("logits/")]
    return entry.parameters


@contextlib.contextmanager
def opened(entry, replacement):
    """Import an entry; yield its graph, session, and a function that restores the variables."""
    if entry.kind == "saved_model":
        with entry.open_in_session(replacement) as (graph, session, _):
            yield graph, session, lambda _: None
    else:
        with tf.Graph().as_default() as graph, tf.Session() as session:
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


def gradients(target, parameters):
    """Return tf.gradients, every one of which has to be there."""
    found = tf.gradients(target, parameters)
    if any(gradient is None for gradient in found):
        raise NoGradientError("None")
    return found


def hessian_vector_products(first, parameters, directions):
    """Return the derivatives of <first, directions>."""
    terms = [tf.reduce_sum(gradient * direction) for gradient, direction in zip(first, directions)]
    return gradients(tf.add_n(terms), parameters)


def derivative(function, point, direction, step=3e-4):
    """Differentiate by central differences of the fourth order."""
    near, far = (
        [
            plus - minus
            for plus, minus in zip(
                function([x + length * d for x, d in zip(point, direction)]),
                function([x - length * d for x, d in zip(point, direction)]),
            )
        ]
        for length in (step, 2 * step)
    )
    return [(8 * n - f) / (12 * step) for n, f in zip(near, far)]


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
    # A call without any gradient: see test_tensorflow_has_no_gradient_of_this_call.
    loss = run([entry.loss])
    return derivative(lambda p: gradient_by_differences(loss, p), point, directions, step=3e-3)


def build(graph, entry, mode, names=None):
    """Return (parameters, directions, by kind: first gradients), new ones and those recorded.

    Of rewritten graphs of the other writer (see NEW_GRADIENTS) only those recorded, if any.
    """
    generator = np.random.RandomState(0)
    names = parameters_of(entry) if names is None else names
    parameters = [graph.get_tensor_by_name(name) for name in names]
    directions = [generator.randn(*parameter.shape.as_list()) for parameter in parameters]
    recorded = [entry.gradients[name] for name in names]
    first = {}
    if not all(recorded) or mode not in MODES or entry.id.startswith(NEW_GRADIENTS):
        first["loss"] = attempt(gradients, graph.get_tensor_by_name(entry.loss), parameters)
    if all(recorded):
        first["recorded"] = [graph.get_tensor_by_name(name) for name in recorded]
    return parameters, directions, first


def run_each(session, tensors, feed_dict):
    """Run tensors by kind; at once where that works."""
    built = {kind: found for kind, found in tensors.items() if not isinstance(found, Failure)}
    together = attempt(session.run, built, feed_dict) if built else {}
    if isinstance(together, Failure):
        together = {kind: attempt(session.run, t, feed_dict) for kind, t in built.items()}
    return {**tensors, **together}


def answers_of(entry, mode, replacement=None):
    """Import, differentiate and run one graph. Gradients come first: functional loops want that."""
    with opened(entry, replacement) as (graph, session, restore):
        parameters, directions, first = build(graph, entry, mode)
        products = {}
        for is_overridden in {"original": (False, True), "fused": (True,)}.get(mode, (False,)):
            with overriding(is_overridden):
                products[is_overridden] = {
                    kind: attempt(hessian_vector_products, found, parameters, directions)
                    for kind, found in first.items()
                }
        restore(session)
        feed_dict = entry.feed_dict()
        recorded = [name for name in entry.gradients.values() if name is not None]
        names = sorted({entry.loss, *entry.fetches, *recorded})
        values = dict(zip(names, session.run(names, feed_dict)))
        products = {key: run_each(session, found, feed_dict) for key, found in products.items()}
        wanted = None
        if mode == "original":
            reference = first.get("recorded", first["loss"])
            wanted = attempt(differences, entry, session, reference, parameters, directions)
    return Answers(values, products.get(False), products.get(True), wanted)


def rewritten(entry, mode, folder):
    """Return what to open in the stead of an entry."""
    if mode == "original":
        return None
    if mode == "fused":
        tagged = rewritten(entry, "tag", folder)
        rewrite = graphs.rewrite_meta_graph if entry.kind == "meta" else graphs.rewrite_graph_def
        return rewrite(tagged, "fused")
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


# TF 2.x keeps the functions of v2 loops and branches for the whole process, by names that do not
# tell one body from another: what was rewritten to other bodies has to go into another process.
NEXT = {"tag": "logsumexp", "logsumexp": "tag"}
COLLIDING = [] if IS_TF1 else [name for name in ENTRIES if name.endswith("_v2")]


def write_answers(path, mode, next_mode):
    """Write the answers of COLLIDING in one mode, and then of one of them in another."""
    found = {name: answers_here(ENTRIES[name], mode) for name in COLLIDING}
    found["collision"] = answers_here(ENTRIES["tf115-loop_v2"], next_mode)
    with open(path, "wb") as file:
        pickle.dump(found, file)


@functools.lru_cache(maxsize=None)
def answers_elsewhere(mode, next_mode):
    """Return what another process wrote."""
    program = "import sys, tests.test_graphs_corpus as t; t.write_answers(*sys.argv[1:])"
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "answers")
        process = subprocess.run(
            [sys.executable, "-c", program, path, mode, next_mode],
            cwd=str(ROOT),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
        )
        assert process.returncode == 0, process.stdout.decode("utf-8", "replace")[-4000:]
        with open(path, "rb") as file:
            return pickle.load(file)


@functools.lru_cache(maxsize=None)
def answers(name, mode):
    """Return the answers of an entry in a mode, "original" and "fused" among them."""
    if name in COLLIDING and mode in MODES:
        return answers_elsewhere(mode, NEXT[mode])[name]
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
            assert isinstance(found, Failure), (kind, expected.reason)
            assert found.error == expected.error and expected.message in found.message, found


parametrize_entries = pytest.mark.parametrize("name", ENTRIES)


@pytest.mark.parametrize("mode", MODES)
@parametrize_entries
def test_hessian_vector_products_of_a_rewritten_graph(name, mode):
    check_products(ENTRIES[name], answers(name, mode).products, LIMITS)


@parametrize_entries
def test_hessian_vector_products_after_override_gradients(name):
    check_products(ENTRIES[name], answers(name, "original").overridden, LIMITS + LIMITS_OF_CALLS)


@pytest.mark.parametrize("name", [name for name in ENTRIES if program(ENTRIES[name]) in CALLING])
def test_inlined_calls_are_differentiated_twice_without_tags_too(name):
    found = answers(name, "fused")
    check_products(ENTRIES[name], found.overridden, LIMITS)
    for key, value in answers(name, "original").values.items():
        np.testing.assert_array_equal(found.values[key], value, err_msg=key)


@parametrize_entries
def test_values_stay(name):
    before = answers(name, "original").values
    assert before
    for key, value in before.items():
        np.testing.assert_array_equal(answers(name, "tag").values[key], value, err_msg=key)
        found = answers(name, "logsumexp").values[key]
        np.testing.assert_allclose(found, value, err_msg=key, **VALUE_TOLERANCE)


def measured_verdict(entry):
    """Return what it takes until all products are right that TensorFlow sets no limit to."""
    original = answers(entry.id, "original")

    def all_right(*answered):
        found = [
            is_right(entry.id, product)
            for products in answered
            for kind, product in products.items()
            if limit(entry, kind, LIMITS) is None
        ]
        return bool(found) and all(found)

    if all_right(original.products):
        return Verdict.AS_IT_IS
    if all_right(original.overridden):
        return Verdict.OVERRIDE
    if all_right(*(answers(entry.id, mode).products for mode in MODES)):
        return Verdict.REWRITE
    return Verdict.NOT


def reported(entry):
    """Return the report's ops of an entry's own graph."""
    tags = None if entry.tags is None else "+".join(sorted(entry.tags))
    return [op for op in graphs.inspect_graph(entry.path).ops if op.graph == tags]


@parametrize_entries
def test_verdicts_are_true(name):
    entry = ENTRIES[name]
    found = [op.verdict for op in reported(entry)]
    assert max(found, key=VERDICTS.index) == measured_verdict(entry), found


def test_all_verdicts_occur():
    assert {op.verdict for entry in ENTRIES.values() for op in reported(entry)} == set(VERDICTS)


@pytest.mark.parametrize("name", [name for name in ENTRIES if name.endswith("-tagger")])
@pytest.mark.parametrize("mode", MODES)
def test_tensorflow_has_no_second_derivative_through_a_v1_loop(name, mode):
    entry = ENTRIES[name]
    assert set(parameters_of(entry)) < set(entry.parameters)
    with opened(entry, rewritten(entry, mode, None)) as (graph, _, _), overriding(True):
        parameters, directions, first = build(graph, entry, "original", entry.parameters)
        assert set(first) == {"loss", "recorded"}
        for kind, found in first.items():
            product = attempt(hessian_vector_products, found, parameters, directions)
            assert isinstance(product, Failure)
            assert (product.error, product.message) in THROUGH_A_V1_LOOP[kind]


@pytest.mark.parametrize("name", [name for name in ENTRIES if name.endswith("-defun")])
def test_tensorflow_has_no_gradient_of_this_call(name):
    entry = ENTRIES[name]
    with opened(entry, None) as (graph, session, restore):
        _, _, first = build(graph, entry, "original")
        restore(session)
        with pytest.raises(tf.errors.OpError, match="No gradient defined for op"):
            session.run(first["loss"], entry.feed_dict())


def test_what_shares_a_process_with_other_bodies_is_right_or_refused():
    if not COLLIDING:
        pytest.skip("TF 1.x keeps the functions of a graph with the graph")
    # Whether names meet depends on how many were given before: on TF 2.21 they do, on 2.4 not.
    for mode in MODES:
        for found in answers_elsewhere(mode, NEXT[mode])["collision"].products.values():
            is_refused = "duplicate function" in getattr(found, "message", "")
            assert is_refused or is_right("tf115-loop_v2", found), found
