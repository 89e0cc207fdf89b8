"""`compare_functions`: what it reads from names, what it says of wrong sides, what it refuses."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tf1xent.verification import compare_functions


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
    assert "BEFORE is exactly 0: saturated" in report.to_text()
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
