"""A diagnosis in an event file: read back by TensorFlow, and by TensorBoard."""

import os

import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.reports.findings import FOUND, NOTHING
from tf1xent.diagnostics.reports.events import text_summary, write_text


def texts(path):
    """The texts of an event file: [(step, tag, text)]."""
    return [
        (event.step, value.tag, tf.make_ndarray(value.tensor).item().decode())
        for event in tf.train.summary_iterator(str(path))
        for value in event.summary.value
    ]


def test_the_text_stands_in_an_event_file_as_it_is(tmp_path):
    path = write_text(FOUND, tmp_path / "new", name="doctor")
    assert os.listdir(str(tmp_path / "new")) == [os.path.basename(path)]
    ((step, tag, text),) = texts(path)
    assert (step, tag) == (150, "doctor")
    # A block of code in Markdown.
    assert text == "\n".join("    " + line for line in str(FOUND).splitlines())
    assert [found[0] for found in texts(write_text(NOTHING, tmp_path))] == [0]


def test_it_goes_to_a_writer_at_hand(tmp_path):
    with tf.Graph().as_default():
        writer = tf.summary.FileWriter(str(tmp_path))
        writer.add_summary(text_summary(FOUND), 7)
        writer.close()
    (name,) = os.listdir(str(tmp_path))
    assert [found[:2] for found in texts(tmp_path / name)] == [(7, "diagnosis")]


def test_tensorboard_shows_it_on_its_page_of_texts(tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="TensorBoard is not installed with this TensorFlow",
    )
    write_text(FOUND, tmp_path)
    read = accumulator.EventAccumulator(str(tmp_path))
    read.Reload()
    assert read.SummaryMetadata("diagnosis").plugin_data.plugin_name == "text"
    (event,) = read.Tensors("diagnosis")
    assert event.step == 150
    assert "log of 0 (train.py:41" in event.tensor_proto.string_val[0].decode()
