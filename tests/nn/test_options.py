"""Values of the per-example losses with options: every option, pair and the triples that have been
wrong elsewhere, every shape and dtype, and that what is left out takes part in nothing."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.oracle.option_reference import OptionReference, loss_of_probabilities
from tests.support.option_cases import (
    CLASS_WEIGHTS,
    FUNCTIONS,
    LABELS,
    LEFT_OUT,
    LOGITS,
    MASKED,
    NUMBERS,
    PROBABILITIES,
    SOFT_LABELS,
    WEIGHTS,
    Case,
    CaseGraph,
    Comparison,
    Faults,
    combinations,
    differentiated,
    differentiated_results,
    placeholder,
)
from tf1xent import nn

pytestmark = pytest.mark.exhaustive

KINDS = ("sparse", "soft", "probabilities")
MASKED_SPARSE, WEIGHTED_SPARSE = FUNCTIONS["sparse"]
MASKED_SOFT, WEIGHTED_SOFT = FUNCTIONS["soft"]
OF_PROBABILITIES = nn.softmax_cross_entropy_with_probabilities
EXACT = {"rtol": 1e-12, "atol": 1e-13}
SMOOTH = {name: NUMBERS[name] for name in ("label_smoothing", "z_loss", "focal_gamma", "softcap")}


TRIPLES = ({"focal_gamma", "class_mask"}, {"label_smoothing", "class_weights"})


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_of_options_and_the_triples_that_go_wrong_elsewhere(kind):
    """Single options and larger combinations: where the derivatives are tested."""
    chosen = combinations(kind, 2)
    chosen += [x for x in combinations(kind, 3) if any(triple <= set(x) for triple in TRIPLES)]
    graph = CaseGraph([Case(kind, names, variant=i) for i, names in enumerate(chosen)])
    faults = Faults(**EXACT)
    for case, (loss, _, _) in zip(graph.cases, graph.run()):
        faults.compare(case.name, loss, case.reference().loss())
    faults.none()


def test_every_option_in_float32():
    chosen = [
        Case(kind, names, "float32", variant=i)
        for kind in KINDS
        for i, names in enumerate([()] + combinations(kind, 1))
    ]
    graph = CaseGraph(chosen, derivatives=1)
    faults = Faults(rtol=2e-5, atol=1e-7)
    for case, (loss, gradient, _) in zip(chosen, graph.run()):
        reference = case.reference()
        faults.compare(case.name, loss, reference.loss())
        wanted = reference.derivatives(case.vectors, case.cotangents)[0]
        for name in wanted:
            faults.compare(f"{case.name}; in {name}", gradient[name], wanted[name])
    faults.none()


# --- Shapes and dtypes --------------------------------------------------------------------------

LAYOUTS = {  # shape of the rows, axis
    "vector": ((), -1),
    "matrix": ((5,), -1),
    "matrix, axis 0": ((5,), 0),
    "sequence, axis 1": ((2, 3), 1),
    "image": ((2, 1, 3), -1),
    "no rows": ((0,), -1),
    "no rows, axis 1": ((2, 0), 1),
}


def _layout(rows, axis, num_classes=4, seed=5):
    """Logits, int labels, soft labels, a mask and weights of a layout."""
    random = np.random.RandomState(seed)
    logits = np.moveaxis(2.0 * random.normal(size=rows + (num_classes,)), -1, axis)
    soft = np.moveaxis(random.gamma(0.5, size=rows + (num_classes,)), -1, axis)
    labels = random.randint(num_classes, size=rows)
    mask = np.asarray(random.uniform(size=rows) < 0.75)
    return logits, labels, soft, mask, random.uniform(0.5, 2.0, size=rows)


@pytest.mark.exhaustive
@pytest.mark.parametrize("static", ["known", "unknown sizes", "unknown"])
def test_every_rank_and_axis_with_all_that_is_known_of_the_shapes(static):
    comparison = Comparison()
    for i, (name, (rows, axis)) in enumerate(LAYOUTS.items()):
        logits, labels, soft, mask, weights = _layout(rows, axis)
        options = dict(SMOOTH, mask=mask, weights=weights, axis=axis, static=static)
        options.update(class_weights=CLASS_WEIGHTS, class_mask=np.ones(4, bool))
        some = soft * np.expand_dims(mask, axis)  # the others are missing
        missing = {"static": static, "axis": axis, "oracle": {"skip_missing": True}}
        # Each layout with either function, and with both where nothing is known of the shapes.
        if static == "unknown" or (i % 2 == 0) == (static == "known"):
            comparison.add(name, FUNCTIONS["sparse"][i % 2], labels, logits, **options)
        if static == "unknown" or (i % 2 == 1) == (static == "known"):
            comparison.add(name + " missing", MASKED_SOFT, some, logits, **missing)
    comparison.check(**EXACT)


@pytest.mark.parametrize("static", ["known", "unknown sizes", "unknown"])
def test_probabilities_of_every_rank_and_axis(static):
    comparison = Comparison()
    for name, (rows, axis) in LAYOUTS.items():
        logits, _, soft, mask, weights = _layout(rows, axis)
        options = {"mask": mask, "weights": weights, "axis": axis, "static": static}
        options.update(class_weights=CLASS_WEIGHTS, label_smoothing=0.125, focal_gamma=1.5)
        probabilities = 1.0 / (1.5 + logits**2)
        comparison.add_probabilities(name, soft, probabilities, **options)
    comparison.check(**EXACT)


def test_one_class():
    """The loss is that of z alone, and its derivatives are 0."""
    comparison = Comparison()
    logits, labels, soft, mask, weights = _layout((3,), -1, num_classes=1)
    for gamma in (0.0, 0.5, 1.0, 2.0):
        options = {"mask": mask, "weights": weights, "z_loss": 0.5, "focal_gamma": gamma}
        options.update(label_smoothing=0.25, class_weights=[2.0], class_mask=[True])
        comparison.add(f"gamma {gamma}", MASKED_SPARSE, labels, logits, **options)
        comparison.add(f"gamma {gamma}, soft", MASKED_SOFT, soft, logits, **options)
    comparison.check(**EXACT)


def test_static_shape_and_dtype_of_the_result():
    with tf.Graph().as_default():
        for dtype in (tf.float16, tf.bfloat16, tf.float32, tf.float64):
            logits = tf.placeholder(dtype, [None, 4, 3])
            soft = tf.placeholder(dtype, [None, 4, 3])
            for function in FUNCTIONS["soft"] + FUNCTIONS["probabilities"]:
                loss = function(soft, logits, axis=1)
                assert (loss.dtype, loss.shape.as_list()) == (dtype, [None, 3])
            labels = tf.placeholder(tf.int32, [5, None])
            for function in FUNCTIONS["sparse"]:
                loss = function(labels, logits, axis=1)
                assert (loss.dtype, loss.shape.as_list()) == (dtype, [5, 3])


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype, rtol", [("half", 2e-3), ("bfloat16", 2e-2)])
def test_half_precision_is_computed_in_float32(dtype, rtol):
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.cast(placeholder(LOGITS), dtype)
        weights = tf.cast(placeholder(WEIGHTS), dtype)
        options = dict(SMOOTH, weights=weights, mask=np.arange(6) != MASKED)
        losses = [
            MASKED_SPARSE(LABELS, logits, class_weights=CLASS_WEIGHTS, **options),
            WEIGHTED_SOFT(SOFT_LABELS, logits, **options),
        ]
        gradients = [tf.gradients(loss, logits)[0] for loss in losses]
        assert {tensor.dtype for tensor in losses + gradients} == {logits.dtype}
        rounded, weights, losses, gradients = session.run(
            [tf.cast(x, tf.float64) for x in (logits, weights)]
            + [[tf.cast(x, tf.float64) for x in found] for found in (losses, gradients)]
        )
    exact = dict(options, weights=weights)
    faults = Faults(rtol=rtol, atol=1e-3 * rtol)
    soft = tf.as_dtype("float32").as_numpy_dtype(SOFT_LABELS)
    for i, (labels, others) in enumerate(((LABELS, {"class_weights": CLASS_WEIGHTS}), (soft, {}))):
        reference = OptionReference(labels, rounded, **dict(exact, **others))
        zeros = {name: np.zeros(x.shape) for name, x in reference.arguments.items()}
        faults.compare(f"loss {i}", losses[i], reference.loss())
        wanted = reference.derivatives(zeros, np.ones(6))[0]["logits"]
        faults.compare(f"gradient {i}", gradients[i], wanted)
    faults.none()


# --- Which rows count ---------------------------------------------------------------------------


def test_ignored_labels_of_every_kind():
    comparison = Comparison(gradients=False)
    for i, dtype in enumerate(("int32", "int64")):
        for j, ignored in enumerate((-1, -100, 255, 0, 3)):
            labels = LABELS.astype(dtype)
            labels[[1, 4]] = ignored
            options = dict(ignore_label=ignored, label_smoothing=0.125, class_weights=CLASS_WEIGHTS)
            function = FUNCTIONS["sparse"][(i + j) % 2]
            comparison.add(f"{dtype} {ignored}", function, labels, LOGITS, **options)
    comparison.add("none", MASKED_SPARSE, LABELS, LOGITS, ignore_label=-1)
    comparison.add("all", MASKED_SPARSE, np.full(6, -1), LOGITS, ignore_label=-1, z_loss=1.0)
    comparison.check(**EXACT)


def test_masks_and_weights_that_broadcast():
    logits, labels, soft, mask, weights = _layout((2, 3), -1)
    comparison = Comparison(gradients=False)
    masks = (mask, mask[:1], mask[:, :1], np.array([[True]]), np.array([[False]]))
    for i, given in enumerate(masks):
        shown = f"mask {given.shape}"
        numbers = 3 * given.astype(("float32", "int32", "float64")[i % 3])
        comparison.add(shown, MASKED_SPARSE, labels, logits, mask=given)
        comparison.add(shown + " of numbers", MASKED_SOFT, soft, logits, mask=numbers)
    for given in (weights, weights[:1], weights[:, :1], weights[:1, :1], np.float64(0.75)):
        shown = f"weights {given.shape}"
        comparison.add(shown, WEIGHTED_SPARSE, labels, logits, weights=given, mask=mask)
        comparison.add(shown, WEIGHTED_SOFT, soft, logits, weights=given)
    comparison.check(**EXACT)


def test_python_numbers_and_integers_as_weights():
    options = dict(label_smoothing=0, z_loss=0, temperature=1, focal_gamma=0, softcap=2)
    with tf.Graph().as_default(), tf.Session() as session:
        loss, weighted, smoothed = session.run(
            [
                WEIGHTED_SPARSE(LABELS, LOGITS),
                WEIGHTED_SPARSE(LABELS, LOGITS, weights=2, class_weights=[1, 2, 3, 4]),
                WEIGHTED_SPARSE(LABELS, LOGITS, **options),
            ]
        )
    np.testing.assert_allclose(weighted, 2 * loss * (LABELS + 1), rtol=1e-14)
    np.testing.assert_allclose(
        smoothed, OptionReference(LABELS, LOGITS, softcap=2).loss(), rtol=1e-13
    )


def test_options_as_scalar_tensors():
    comparison = Comparison(gradients=False)
    with comparison.graph.as_default():
        tensors = {name: placeholder(np.float64(value)) for name, value in NUMBERS.items()}
    for name, tensor in tensors.items():
        oracle = {name: NUMBERS[name]}
        comparison.add(name, WEIGHTED_SOFT, SOFT_LABELS, LOGITS, oracle=oracle, **{name: tensor})
    everything = dict(mask=np.arange(6) != MASKED, class_weights=CLASS_WEIGHTS, **tensors)
    comparison.add("all", WEIGHTED_SPARSE, LABELS, LOGITS, oracle=NUMBERS, **everything)
    comparison.check(**EXACT)


def test_rows_of_zeros_are_missing_only_where_masked_softmax_has_no_mask():
    soft = SOFT_LABELS.copy()
    soft[[1, 3]] = 0.0
    comparison = Comparison()
    everything = dict(label_smoothing=0.25, z_loss=0.5)
    skip = {"skip_missing": True}
    comparison.add("masked", MASKED_SOFT, soft, LOGITS, oracle=skip, **everything)
    comparison.add("weighted", WEIGHTED_SOFT, soft, LOGITS, **everything)
    mask = np.arange(6) != 1
    comparison.add("mask", MASKED_SOFT, soft, LOGITS, mask=mask, **everything)
    comparison.add("all masked", MASKED_SOFT, soft, LOGITS, mask=np.zeros(6, bool), **everything)
    for shared in (soft[:1], soft[1:2]):  # one distribution for all rows
        comparison.add("shared", MASKED_SOFT, shared, LOGITS, oracle=skip, **everything)
        comparison.add("shared", WEIGHTED_SOFT, shared, LOGITS, **everything)
    integers = np.eye(4, dtype=np.int32)[LABELS]
    comparison.add("integers", MASKED_SOFT, integers, LOGITS, oracle=skip, **everything)
    comparison.check(**EXACT)


@pytest.mark.parametrize("function", FUNCTIONS["sparse"])
def test_invalid_labels_by_policy(function):
    labels = np.array([2, 4, -1, 0, 1, 3])
    comparison = Comparison(gradients=False)
    for policy in ("nan", "ignore"):
        for mask in (None, np.array([True, False, True, True, False, True])):
            for ignored in (None, -1):
                options = dict(invalid_labels=policy, mask=mask, ignore_label=ignored)
                options.update(label_smoothing=0.125, class_weights=CLASS_WEIGHTS)
                comparison.add(f"{policy} {mask} {ignored}", function, labels, LOGITS, **options)
    comparison.check(**EXACT)
    with tf.Graph().as_default(), tf.Session() as session:
        logits = placeholder(LOGITS)
        loss = function(placeholder(labels), logits, invalid_labels="nan", focal_gamma=1.0)
        gradient = session.run(tf.gradients(loss, logits)[0])
    invalid = (labels < 0) | (labels > 3)
    assert np.isnan(gradient[invalid]).all() and np.isfinite(gradient[~invalid]).all()


# --- Classes left out ---------------------------------------------------------------------------


def test_class_masks_by_row_and_shared():
    logits, labels, soft, _, _ = _layout((2, 3), -1)
    by_row = np.random.RandomState(1).uniform(size=(2, 3, 4)) < 0.5
    by_row |= np.eye(4, dtype=bool)[labels]
    comparison = Comparison(gradients=False)
    for i, mask in enumerate((by_row, by_row.any((0, 1)), by_row[:1], by_row[:, :1])):
        # What the logits' rank makes one for all rows has to keep every row's label.
        mask = mask | (np.arange(4) > 0) if i else mask
        labels = np.maximum(labels, 1) if i else labels
        open_labels = np.where(mask, soft, 0.0)
        options = dict(SMOOTH, class_mask=mask)
        comparison.add(f"sparse {i}", MASKED_SPARSE, labels, logits, **options)
        if mask.ndim < 3:
            comparison.add(f"soft {i}", WEIGHTED_SOFT, open_labels, logits, **options)
        else:
            options.update(class_mask=np.moveaxis(mask, -1, 1), axis=1)
            moved = np.moveaxis(open_labels, -1, 1), np.moveaxis(logits, -1, 1)
            comparison.add(f"soft {i}, axis 1", WEIGHTED_SOFT, *moved, **options)
    comparison.check(**EXACT)


def test_a_label_that_is_left_out_has_an_infinite_loss_and_no_nan():
    mask = np.arange(4) != LEFT_OUT
    labels = np.where(np.arange(6) % 2, LEFT_OUT, 0)
    soft = SOFT_LABELS * mask
    soft[1::2, LEFT_OUT] = 0.5
    with tf.Graph().as_default(), tf.Session() as session:
        logits = placeholder(LOGITS)
        calls = []
        for options in ({}, SMOOTH, {"weights": 0.5, "focal_gamma": 2.0}):
            calls.append(MASKED_SPARSE(labels, logits, class_mask=mask, **options))
            calls.append(WEIGHTED_SOFT(soft, logits, class_mask=mask, **options))
        gradients = [tf.gradients(loss, logits)[0] for loss in calls]
        for loss, gradient in session.run(list(zip(calls, gradients))):
            assert np.isposinf(loss[1::2]).all() and np.isfinite(loss[::2]).all()
            assert not np.isnan(gradient).any()


# --- What is left out takes part in nothing -----------------------------------------------------


def _spoiled(case, bad):
    """The case's arrays with `bad` wherever nothing may read it."""
    arrays = {name: value.copy() for name, value in case.arrays.items()}
    for name in ("logits", "weights"):
        if name in arrays:
            case.by_row(name, arrays[name])[case.removed] = bad
    if "mask" in case.names:
        masked = ~case.options["mask"]
        if case.kind == "sparse":
            arrays["labels"][masked] = 12345
        else:
            case.by_row("labels", arrays["labels"])[masked] = bad
    if "class_mask" in case.names:
        case.by_row("logits", arrays["logits"])[..., LEFT_OUT] = bad
    return arrays


@pytest.mark.exhaustive
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e300], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_garbage_in_what_is_left_out_changes_nothing(kind, bad):
    graph, clean = differentiated(kind), differentiated_results(kind)
    spoiled = graph.run([_spoiled(case, bad) for case in graph.cases])
    faults = Faults(rtol=0, atol=0)
    for case, (loss, gradient, product), results in zip(graph.cases, clean, spoiled):
        faults.compare(case.name, results[0], loss)
        for name in case.vectors:
            faults.compare(f"{case.name}; gradient in {name}", results[1][name], gradient[name])
            faults.compare(f"{case.name}; product in {name}", results[2][name], product[name])
        assert not loss[case.removed].any()
        for name in set(case.vectors) - {"class_weights", "logit_adjustment"}:
            assert not case.by_row(name, gradient[name])[case.removed].any()
            assert not case.by_row(name, product[name])[case.removed].any()
    faults.none()


# --- The functions themselves -------------------------------------------------------------------


def test_epsilon_clips_probabilities_and_stops_their_gradient():
    probabilities = np.array([[0.0, 1e-12, 0.5, 1.25], [-1.0, 1.0, 1e-9, 0.25]])
    soft = np.array([[0.25, 0.25, 0.25, 0.25], [0.5, 0.0, 0.25, 0.25]])
    with tf.Graph().as_default(), tf.Session() as session:
        given = placeholder(probabilities)
        for options in ({}, {"epsilon": 0.375}, {"focal_gamma": 0.5}, {"focal_gamma": 2.0}):
            loss = OF_PROBABILITIES(soft, given, **options)
            loss, gradient = session.run([loss, tf.gradients(loss, given)[0]])
            want = OptionReference(soft, probabilities, formula=loss_of_probabilities, **options)
            np.testing.assert_allclose(loss, want.loss(), rtol=1e-13)
            assert np.isfinite(gradient).all()
            clipped = (probabilities < options.get("epsilon", 1e-10)) | (probabilities > 1.0)
            assert not gradient[clipped].any()


@pytest.mark.parametrize("kind", KINDS)
def test_options_are_keywords(kind):
    labels = LABELS if kind == "sparse" else SOFT_LABELS
    logits = PROBABILITIES if kind == "probabilities" else LOGITS
    for function in FUNCTIONS[kind]:
        with tf.Graph().as_default(), pytest.raises(TypeError):
            function(labels, logits, None)
