"""Curvature for TensorBoard: event files with scalars, a histogram and a picture."""

from typing import Any, Iterator, Optional, Tuple

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Path, Proto
from tf1xent.curvature.reports.plotting import spectrum_png

__all__ = ["write_events"]

_HISTOGRAM_BUCKETS = 100


def write_events(
    folder: Path,
    step: int,
    *,
    eigenvalues: Any = None,
    trace: Any = None,
    density: Any = None,
    name: str = "curvature",
) -> str:
    """Writes curvature at a step of training to an event file, to be looked at in TensorBoard.

    Eigenvalues and the trace become scalars, ``curvature/eigenvalue_1`` and so on,
    ``curvature/trace`` and ``curvature/trace_standard_error``; the density becomes the histogram
    ``curvature/spectrum`` and, of matplotlib, the image ``curvature/density``.

    Args:
      folder: of the event file; it is made if it is not there.
      step: of training, as TensorBoard's horizontal axis.
      eigenvalues: `Eigenvalues` or an array [k], the largest first.
      trace: a `TraceEstimate` or a number.
      density: a `SpectralDensity`.
      name: begins the tags.

    Returns:
      The path of the event file, a new one.

    Raises:
      ValueError: nothing is given to write.
      OSError, tf.errors.OpError: it cannot be written.

    Example:

    >>> import tempfile
    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import write_events
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_events(folder, step=10, eigenvalues=[3.0, 1.0], trace=5.0)
    ...     for event in tf.train.summary_iterator(path):
    ...         print([(value.tag, value.simple_value) for value in event.summary.value])
    []
    [('curvature/eigenvalue_1', 3.0), ('curvature/eigenvalue_2', 1.0), ('curvature/trace', 5.0)]
    """
    summary = curvature_summary(eigenvalues, trace, density, name)
    if not summary.value:
        raise ValueError("write_events: eigenvalues, a trace or a density must be given, got none.")
    return _tf.write_event_file(folder, step, summary)


def curvature_summary(
    eigenvalues: Any = None, trace: Any = None, density: Any = None, name: str = "curvature"
) -> Proto:
    """Returns a `tf.Summary` for what `write_events` writes, for a summary writer at hand."""
    summary = tf.Summary()
    for tag, value in _scalars(eigenvalues, trace):
        summary.value.add(tag=f"{name}/{tag}", simple_value=value)
    if density is not None:
        summary.value.add(tag=f"{name}/spectrum", histo=_histogram(density))
        summary.value.add(tag=f"{name}/density", image=_image(density, eigenvalues))
    return summary


def _scalars(eigenvalues: Any, trace: Any) -> Iterator[Tuple[str, float]]:
    if eigenvalues is not None:
        values = np.ravel(getattr(eigenvalues, "values", eigenvalues))
        for number, value in enumerate(values, 1):
            yield f"eigenvalue_{number}", float(value)
    if trace is not None:
        yield "trace", float(getattr(trace, "value", trace))
        error = getattr(trace, "standard_error", None)
        if error is not None:
            yield "trace_standard_error", float(error)


def _histogram(density: Any) -> Proto:
    """A histogram of the density's nodes, in which all weights sum to 1."""
    nodes, weights = _quadrature(density)
    counts, edges = np.histogram(nodes, _HISTOGRAM_BUCKETS, weights=weights)
    return tf.HistogramProto(
        min=float(nodes.min()),
        max=float(nodes.max()),
        num=float(weights.sum()),
        sum=float(weights @ nodes),
        sum_squares=float(weights @ nodes**2),
        bucket_limit=edges[1:].tolist(),
        bucket=counts.tolist(),
    )


def _quadrature(density: Any) -> Tuple[np.ndarray, np.ndarray]:
    """Returns all nodes and their weights, the mean over the random vectors."""
    nodes = [np.ravel(of_vector) for of_vector in density.nodes]
    weights = [np.ravel(of_vector) / len(nodes) for of_vector in density.weights]
    return np.concatenate(nodes), np.concatenate(weights)


def _image(density: Any, eigenvalues: Optional[Any]) -> Proto:
    png = spectrum_png(density, eigenvalues=eigenvalues)
    # The header of a PNG has width and height from byte 16 on.
    width, height = (int.from_bytes(png[begin : begin + 4], "big") for begin in (16, 20))
    return tf.Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
