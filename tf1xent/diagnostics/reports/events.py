"""A diagnosis for TensorBoard: a text summary, which its page Text shows as Markdown."""

from typing import TYPE_CHECKING

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Path, Proto

if TYPE_CHECKING:
    from tf1xent.diagnostics.diagnosis import Diagnosis

__all__ = ["text_summary", "write_text"]


def text_summary(diagnosis: "Diagnosis", name: str = "diagnosis") -> Proto:
    """Returns a `tf.Summary` with the report, for a summary writer at hand.

    Use it with a `tf.summary.FileWriter` that the program has; `write_text` needs none. TensorBoard
    shows it on its page Text.

    Args:
      diagnosis: a `Diagnosis`.
      name: the tag.

    Returns:
      A `tf.Summary` with one text.

    Example:

    >>> from tf1xent.diagnostics import Diagnosis
    >>> from tf1xent.diagnostics.reports.events import text_summary
    >>> found = Diagnosis("the loss is nan", 3, [], "Run again without grappler", True)
    >>> text_summary(found).value[0].tag
    'diagnosis'
    """
    # As a block of code: what names hold must not become Markdown.
    text = "\n".join("    " + line for line in str(diagnosis).splitlines())
    summary = tf.Summary()
    plugin = tf.SummaryMetadata.PluginData(plugin_name="text")
    summary.value.add(
        tag=name,
        metadata=tf.SummaryMetadata(plugin_data=plugin),
        tensor=tf.make_tensor_proto(text.encode("utf-8"), dtype=tf.string),
    )
    return summary


def write_text(diagnosis: "Diagnosis", folder: Path, name: str = "diagnosis") -> str:
    """Writes the report to a new event file, to be read in TensorBoard.

    Use it where there is no `tf.summary.FileWriter`, which eager execution refuses.

    Args:
      diagnosis: a `Diagnosis`; one without a step stands at step 0.
      folder: of the event file; it is made if it is not there.
      name: the tag.

    Returns:
      The path of the event file.

    Raises:
      OSError, tf.errors.OpError: it cannot be written.

    Example:

    >>> import os, tempfile
    >>> from tf1xent.diagnostics import Diagnosis
    >>> from tf1xent.diagnostics.reports.events import write_text
    >>> found = Diagnosis("the loss is nan", 3, [], "Run again without grappler", True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(os.path.basename(write_text(found, folder)).split(".")[:3])
    ['events', 'out', 'tfevents']
    """
    return _tf.write_event_file(folder, diagnosis.step or 0, text_summary(diagnosis, name))
