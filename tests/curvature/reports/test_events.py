"""Event files: read back by TensorFlow, and by TensorBoard."""

import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tf1xent.curvature.estimates.eigenvalues import top_eigenvalues
from tf1xent.curvature.estimates.spectral_density import spectral_density
from tf1xent.curvature.estimates.trace import trace
from tf1xent.curvature.reports.events import curvature_summary, write_events

MATRIX = np.diag(np.linspace(-1, 3, 40))


@pytest.fixture(scope="module")
def found():
    """Estimates of a matrix, by the names that `write_events` has for them."""
    return {
        "eigenvalues": top_eigenvalues(MATRIX, 2),
        "trace": trace(MATRIX, 8),
        "density": spectral_density(MATRIX, num_steps=20, num_vectors=3),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory, found):
    """Event files of two steps."""
    folder = tmp_path_factory.mktemp("events") / "new" / "folder"
    write_events(folder, 10, **found)
    write_events(folder, 20, eigenvalues=[4.0, -1.0], trace=2.0)
    return folder


def test_event_files_are_read_back_by_tensorflow(folder, found):
    paths = sorted(str(path) for path in folder.iterdir())
    assert len(paths) == 2
    first, second = ([*tf.train.summary_iterator(path)] for path in paths)
    assert [event.file_version for event in first] == ["brain.Event:2", ""]
    assert [first[1].step, second[1].step] == [10, 20]
    values = {value.tag: value for value in first[1].summary.value}
    assert sorted(values) == [
        "curvature/density",
        "curvature/eigenvalue_1",
        "curvature/eigenvalue_2",
        "curvature/spectrum",
        "curvature/trace",
        "curvature/trace_standard_error",
    ]
    scalars = [values[f"curvature/{name}"].simple_value for name in ("eigenvalue_1", "trace")]
    np.testing.assert_allclose(scalars, [3, found["trace"].value], rtol=1e-6)
    histogram = values["curvature/spectrum"].histo
    nodes = np.concatenate(found["density"].nodes)
    assert (histogram.min, histogram.max) == (nodes.min(), nodes.max())
    np.testing.assert_allclose(
        [histogram.num, histogram.sum, histogram.sum_squares],
        [1, *found["density"].moments],
        rtol=1e-12,
    )
    np.testing.assert_allclose(np.sum(histogram.bucket), 1)
    assert len(histogram.bucket) == len(histogram.bucket_limit)
    assert list(histogram.bucket_limit) == sorted(histogram.bucket_limit)


def test_the_picture_is_the_one_that_its_size_says(folder):
    path = sorted(str(path) for path in folder.iterdir())[0]
    image = [v.image for e in tf.train.summary_iterator(path) for v in e.summary.value][-1]
    with tf.Graph().as_default(), tf.Session() as session:
        pixels = session.run(tf.image.decode_png(image.encoded_image_string))
    assert pixels.shape == (image.height, image.width, image.colorspace)
    assert pixels[..., :3].std() > 10


def test_tensorboard_reads_all_steps_of_a_folder(folder):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="TensorBoard is not installed with this TensorFlow",
    )
    read = accumulator.EventAccumulator(str(folder))
    read.Reload()
    tags = read.Tags()
    # Later ones turn scalars, histograms and images of old event files into tensors.
    of_all_kinds = [name for kind in ("scalars", "images", "histograms") for name in tags[kind]]
    assert set(of_all_kinds) >= {"curvature/eigenvalue_1", "curvature/trace", "curvature/spectrum"}
    assert "curvature/density" in of_all_kinds
    steps = [(event.step, event.value) for event in read.Scalars("curvature/eigenvalue_1")]
    np.testing.assert_allclose(steps, [(10, 3), (20, 4)], rtol=1e-6)


def test_a_summary_goes_to_a_writer_at_hand(tmp_path, found):
    summary = curvature_summary(found["eigenvalues"], name="sharpness")
    assert [value.tag for value in summary.value] == [
        "sharpness/eigenvalue_1",
        "sharpness/eigenvalue_2",
    ]
    with tf.Graph().as_default():
        writer = tf.summary.FileWriter(str(tmp_path))
        writer.add_summary(summary, 7)
        writer.close()
    (name,) = os.listdir(str(tmp_path))
    events = [*tf.train.summary_iterator(str(tmp_path / name))]
    assert [event.step for event in events if event.summary.value] == [7]


def test_nothing_to_write_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be given, got none"):
        write_events(tmp_path / "none", 1)
    assert not (tmp_path / "none").exists()
