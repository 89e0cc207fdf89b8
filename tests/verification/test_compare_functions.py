"""`compare_functions`: what it reads from names, what it says of wrong sides, what it refuses."""

import copy
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.verification import planted
from tf1xent.verification import compare_functions
from tf1xent.verification.comparing import batches_of, compared, setting_of
from tf1xent.verification.measuring import measure
from tf1xent.verification.programs import FunctionProgram


def sparse(labels, logits):
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(losses)


def one_hot_by_hand(z, onehot_labels):
    """Other names, another order, another kind of labels."""
    normalizer = tf.reduce_logsumexp(z, axis=1)
    return tf.reduce_mean(normalizer - tf.reduce_sum(onehot_labels * z, axis=1))


def clipped(labels, logits):
    p = tf.nn.softmax(logits)
    picked = tf.one_hot(labels, logits.shape[-1], dtype=p.dtype)
    logs = tf.log(tf.clip_by_value(p, 1e-10, 1.0))
    return -tf.reduce_mean(tf.reduce_sum(picked * logs, axis=1))


def said(report, verdict):
    return {(f.quantity, f.batch) for f in report.findings if f.verdict == verdict}


def test_inputs_are_told_by_their_names():
    report = compare_functions(sparse, one_hot_by_hand, without=["-inf"])
    assert report.equal, report.to_text()
    assert report.after.parameters == {"z": "logits", "onehot_labels": "one-hot"}
    assert report.formula == "mean over the rows, softmax cross-entropy with sparse labels"


def test_a_clipped_before_is_wrong_and_not_after_different():
    report = compare_functions(clipped, sparse, dtypes=["float32"])
    assert report.equal and report.before_is_wrong
    assert ("gradient by logits", "confident, wrong") in said(report, "BEFORE is wrong")
    assert not said(report, "different")
    assert "BEFORE is exactly 0: saturated" in {finding.reason for finding in report.findings}
    assert not compare_functions(clipped, sparse, dtypes=["float32"], strict=True).equal


def test_a_clipped_after_is_different():
    report = compare_functions(sparse, clipped, dtypes=["float32"])
    assert not report.equal
    assert ("gradient by logits", "confident, wrong") in said(report, "different")


def test_what_cannot_be_told_is_an_error_that_names_the_remedy():
    def odd(logits, foo):
        return tf.reduce_sum(logits) * tf.reduce_sum(foo)

    with pytest.raises(ValueError, match="'foo' is cannot be told .* --input foo=KIND"):
        compare_functions(odd, odd)
    assert compare_functions(odd, odd, inputs=["foo=weights"], dtypes=["float32"]).equal


def test_what_the_function_raises_says_where():
    def fails(labels, logits):
        raise KeyError("no such thing")

    with pytest.raises(ValueError, match=r"AFTER, fails, .*KeyError at test_compare_.*no such"):
        compare_functions(sparse, fails)


def test_json_holds_numbers_or_words():
    report = compare_functions(clipped, sparse, dtypes=["float32"])
    found = report.to_dict()
    assert found["equal"] is True and found["findings"]
    assert np.isfinite(len(report.to_json()))


def test_a_stop_gradient_that_before_wants_is_no_mistake():
    def stopped(labels, logits):
        half = tf.stop_gradient(0.5 * logits) + 0.5 * logits
        return sparse(labels, half)

    report = compare_functions(stopped, sparse, dtypes=["float64"])
    assert report.formula is None and "not the gradients" in report.reference
    assert ("gradient by logits", "random") in said(report, "different")


def test_what_is_random_is_refused():
    def dropped(labels, logits):
        return sparse(labels, tf.nn.dropout(logits, 0.5))

    with pytest.raises(ValueError, match="AFTER, dropped, is random"):
        compare_functions(sparse, dropped, dtypes=["float32"])


def test_what_always_raises_is_refused():
    def fails(labels, logits):
        with tf.control_dependencies([tf.assert_equal(tf.size(labels), 1000)]):
            return tf.reduce_sum(tf.identity(logits))

    with pytest.raises(ValueError, match="raises on every batch: InvalidArgumentError"):
        compare_functions(fails, fails, dtypes=["float32"])


def test_an_input_that_neither_side_has_is_refused():
    with pytest.raises(ValueError, match="--input w=weights: neither side"):
        compare_functions(sparse, sparse, dtypes=["float32"], inputs=["w=weights"])
    with pytest.raises(ValueError, match="sparse: it has no parameter 'w'"):
        compare_functions(sparse, sparse, dtypes=["float32"], inputs=["after.w=weights"])


def test_a_program_for_one_batch_size_is_built_for_each():
    def of_static_size(labels, logits):
        rows, classes = logits.shape.as_list()
        assert classes == 5
        return tf.reduce_sum(sparse(labels, logits) * rows) / rows

    report = compare_functions(sparse, of_static_size, dtypes=["float64"], without=["no rows"])
    assert report.equal, report.to_text()
    assert ("value", "one row") in said(report, "equal")


def test_shapes_and_kinds_of_inputs_can_be_told():
    def columns(y, logits, w):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.squeeze(y, 1), logits=logits
        )
        return tf.reduce_mean(losses[:, None] * w)

    def plain(labels, logits, weights):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        return tf.reduce_mean(losses * weights)

    inputs = ["y=sparse:B,1", "w=weights:B,1"]
    report = compare_functions(plain, columns, dtypes=["float64"], inputs=inputs)
    assert report.equal, report.to_text()


def test_without_mpmath_before_is_the_reference(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpmath", None)
    report = compare_functions(sparse, one_hot_by_hand, dtypes=["float64"], without=["-inf"])
    assert report.equal and report.formula is None
    assert report.reference == "BEFORE; for exact results: pip install tf1xent[verify]"
    assert not compare_functions(sparse, clipped, dtypes=["float64"]).equal


def test_a_loss_in_float32_is_judged_as_such():
    def of_tf_losses(labels, logits):
        return tf.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)

    def safe(labels, logits):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        return tf.reduce_sum(losses) / tf.maximum(tf.cast(tf.size(losses), losses.dtype), 1)

    report = compare_functions(of_tf_losses, safe, dtypes=["float64"])
    assert report.equal, report.to_text()
    assert "note: BEFORE computes in float32 where its inputs are float64." in report.to_text()
    assert not compare_functions(safe, of_tf_losses, dtypes=["float64"]).equal


def test_accuracy_of_small_entries_is_said_and_counts_when_strict():
    def exact(labels, logits):
        return tf1xent.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)

    def stock(labels, logits):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)

    options = dict(dtypes=["float32"])
    assert "accuracy: AFTER keeps digits" in compare_functions(stock, exact, **options).to_text()
    worse = compare_functions(exact, stock, **options)
    assert worse.equal and "accuracy: AFTER rounds away digits" in worse.to_text()
    assert not compare_functions(exact, stock, strict=True, **options).equal


def test_probabilities_and_their_share_of_the_sum_are_two_formulas():
    def as_they_are(y_true, y_pred):
        return -tf.reduce_mean(tf.reduce_sum(y_true * tf.log(y_pred), axis=1))

    def divided(y_true, y_pred):
        return as_they_are(y_true, y_pred / tf.reduce_sum(y_pred, axis=1, keepdims=True))

    options = dict(labels="one-hot", dtypes=["float64"])
    report = compare_functions(divided, divided, **options)
    assert report.formula == "mean over the rows, cross-entropy of p / sum(p) with one-hot labels"
    report = compare_functions(as_they_are, divided, **options)
    assert ("gradient by probabilities", "random") in said(report, "different")


def test_the_smallest_probability_hides_no_difference_of_other_rows():
    def unguarded(y_true, y_pred):
        return -tf.reduce_sum(y_true * tf.log(y_pred), axis=1)

    def weighted(y_true, y_pred):
        """Wrong for rows whose label is likely."""
        likely = tf.stop_gradient(tf.reduce_sum(y_true * y_pred, axis=1))
        return unguarded(y_true, y_pred) * tf.where(likely > 0.7, 1 + 0.001 * likely, likely**0)

    report = compare_functions(unguarded, weighted, labels="one-hot", dtypes=["float64"])
    assert ("gradient by probabilities", "confident, right") in said(report, "different")


def test_products_that_before_lacks_are_judged_by_exact_ones():
    setting = setting_of(dtypes=["float64"], without=["-inf"])
    functions = planted.log_softmax_and_gather, planted.product_is_wrong
    right, wrong = (
        measure(FunctionProgram(f, f.__name__, setting, "before"), batches_of(setting), None)
        for f in functions
    )
    before = copy.copy(right)
    before.results = {k: result._replace(products={}) for k, result in right.results.items()}
    before.why_no_product = {"float64": "LookupError: none"}
    assert compared(before, right, setting).equal
    report = compared(before, wrong, setting)
    assert ("product by logits", "random") in said(report, "different")
    products = [f for f in report.findings if f.quantity == "product by logits"]
    assert {f.before_error for f in products} == {None}
    assert "note: BEFORE has no Hessian-vector product: LookupError: none." in report.to_text()
