"""Sessions whose errors are not worked over by TensorFlow."""

import time

import pytest
import tensorflow.compat.v1 as tf

from tf1xent import _tf

# TensorFlow's own session takes minutes for a message of this size, on some versions.
LENGTH, SECONDS = 300000, 20


def test_an_error_with_a_long_message_is_there_at_once():
    with tf.Graph().as_default(), _tf.PlainSession() as session:
        refused = tf.Assert(False, ["said " * (LENGTH // 5)])
        begin = time.monotonic()
        with pytest.raises(tf.errors.InvalidArgumentError) as raised:
            session.run(refused)
        assert time.monotonic() - begin < SECONDS
    assert len(str(raised.value)) > LENGTH


def test_it_runs_what_a_session_runs():
    with tf.Graph().as_default(), _tf.PlainSession() as session:
        x = tf.placeholder(tf.float32)
        assert session.run([x * 2], {x: 3.0}) == [6.0]
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(x)
