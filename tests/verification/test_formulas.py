"""Which formula is told from values, and exact results against the oracle of the tests."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.oracle.reference import Reference
from tests.verification import planted
from tf1xent.verification import compare_functions
from tf1xent.verification.batches import Setting, make_batches
from tf1xent.verification.formulas import Formula, exact

LOSSES = {
    "mean over the rows, softmax cross-entropy with sparse labels": (planted.mean, {}),
    "sum, softmax cross-entropy with sparse labels": (planted.sum_for_mean, {}),
    "each, softmax cross-entropy with soft labels": (planted.soft_op, planted.SOFT),
    "mean by the mask, softmax cross-entropy with sparse labels times mask": (
        planted.masked_by_multiplication,
        {},
    ),
    "mean over the rows, softmax cross-entropy with sparse labels times mask": (
        planted.by_wrong_denominator,
        {},
    ),
    "mean by the weights, softmax cross-entropy with sparse labels times weights": (
        planted.weighted_by_their_sum,
        {},
    ),
    "mean by the number of weights that are not 0, softmax cross-entropy with sparse labels times "
    "weights": (planted.weighted_by_tf_losses, {}),
    "mean over the rows, softmax cross-entropy with sparse labels times class-weights": (
        planted.class_weights_by_gather,
        {},
    ),
    "mean over the rows, softmax cross-entropy with sparse labels smoothed by 0.1": (
        planted.smoothed,
        {},
    ),
    "mean over all entries, sigmoid cross-entropy of entries with multi-hot labels": (
        planted.sigmoid_op,
        planted.MULTI_HOT,
    ),
    "sum, cross-entropy of probabilities with one-hot labels": (
        planted.unguarded_log,
        planted.ONE_HOT,
    ),
    "mean over the rows, softmax cross-entropy of softmax(logits) with sparse labels": (
        planted.softmax_twice,
        {},
    ),
    "mean over the rows, softmax cross-entropy of logits * class weights with sparse labels": (
        planted.class_weights_on_logits,
        {},
    ),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("formula", LOSSES)
def test_formulas_are_told_by_their_values(formula):
    loss, options = LOSSES[formula]
    report = compare_functions(loss, loss, dtypes=["float64"], **options)
    assert report.equal and report.formula == formula


def test_what_after_computes_instead_is_said():
    report = compare_functions(planted.mean, planted.softmax_twice, dtypes=["float64"])
    note = "AFTER computes: mean over the rows, softmax cross-entropy of softmax(logits) with"
    assert any(text.startswith(note) for text in report.notes), report.notes
    report = compare_functions(planted.mean, planted.epsilon_in_log, dtypes=["float64"])
    assert any(text.endswith("with log(p + 1e-07).") for text in report.notes), report.notes


def test_no_formula_is_told_where_there_is_none():
    def regularized(labels, logits):
        return planted.mean(labels, logits) + 1e-9 * tf.nn.l2_loss(logits)

    assert compare_functions(regularized, regularized, dtypes=["float64"]).formula is None


def close(found, want):
    want = np.array([float(value) for value in np.ravel(want)])
    np.testing.assert_allclose(np.ravel(found), want, rtol=1e-15, atol=0.0)


@pytest.mark.parametrize("labels", ["sparse", "soft"])
def test_exact_results_are_those_of_the_oracle(labels):
    """Of every batch whose logits are finite; rounded once, they agree to the last place."""
    formula = Formula("softmax cross-entropy", labels, (), False, None)
    for batch in make_batches(Setting(dtypes=("float64",))):
        logits = batch.arrays["logits"]
        if not np.isfinite(logits).all() or not len(logits):
            continue
        found = exact(formula, batch, ("logits",))
        reference, vector = Reference(logits), batch.arrays["vector:logits"]
        if labels == "sparse":
            numbers, weights = batch.arrays["sparse"], None
            close(found.value, reference.sparse_loss(numbers))
            close(found.gradients["logits"], reference.sparse_gradient(numbers))
        else:
            weights = batch.arrays["soft"]
            close(found.value, reference.dense_loss(weights))
            close(found.gradients["logits"], reference.dense_gradient(weights))
        close(found.products["logits"], reference.derivative_product([vector], weights))
