"""Recognises common files that hold no graph, and says what to give instead."""

import os
import re
from typing import Optional

# How much of a file's start and end the signatures below need.
HEAD_BYTES = 512
TAIL_BYTES = 8

_SIGNATURES = (
    (
        rb"\x89HDF\r\n\x1a\n",
        "is an HDF5 file, as Keras writes, not a graph. Load it with Keras and give what "
        "tf.train.write_graph or tf.saved_model writes.",
    ),
    (
        rb"PK\x03\x04",
        "is a zip archive, not a graph. Unpack it and give the graph file in it; for a Keras "
        "model, give what tf.saved_model writes.",
    ),
    (rb"\x1f\x8b", "is compressed with gzip. Unpack it and give its content."),
    (rb".{257}ustar(\0|  \0)", "is a tar archive. Unpack it and give its content."),
    (
        rb".{2}\0\0TFL3",
        "is a TensorFlow Lite model, whose ops TensorFlow cannot differentiate. Give the graph "
        "that it was converted from.",
    ),
    (
        rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype html|html)",
        "is an HTML page, perhaps a server's answer in place of the file. Download it again.",
    ),
    (
        rb"version https://git-lfs\.github\.com/",
        "is a Git LFS pointer; the file itself is missing. Run: git lfs pull",
    ),
    (rb"(\xff\xfe([^\0]\0){3}|\xfe\xff(\0[^\0]){3})", "is text in UTF-16. Save it as UTF-8."),
    # A binary graph can start with these bytes too, but control characters follow them.
    (
        rb"\s*[{\[][^\0-\x08\x0e-\x1f]*$",
        "is JSON, not a graph. Give a graph file that TensorFlow wrote.",
    ),
    (
        rb"(\s*#[^\n]*\n)*\s*(all_)?model_checkpoint_path",
        "is the list of a folder's checkpoints. Give the folder, or the .meta of a checkpoint.",
    ),
)
# The last bytes of TensorFlow's tables: a checkpoint's index, or a whole version 1 checkpoint.
_TABLE_END = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
_VALUES = re.compile(r"\.data-\d+-of-\d+")
_CHECKPOINT_PART = re.compile(r"\.(index|data-\d+-of-\d+)(\.tempstate\d+)?$")
_SAVED_MODEL_PARTS = ("fingerprint.pb", "keras_metadata.pb", "tfhub_module.pb")


def description(path: str, head: bytes, tail: bytes) -> Optional[str]:
    """Says what a file is and what to give instead; None if it may be a graph.

    It looks at the file's first and last bytes and its name.
    """
    name = os.path.basename(path)
    for signature, text in _SIGNATURES:
        if re.match(signature, head, re.DOTALL):
            return text
    if tail == _TABLE_END or _VALUES.search(name):
        return "holds the variables of a checkpoint, not its graph. " + _graph_of_checkpoint(path)
    if ".tfevents." in name:
        return "is a TensorBoard log. Give the graph file that the program saved."
    if name in _SAVED_MODEL_PARTS:
        return "is a part of a SavedModel, not its graph. Give the folder of the SavedModel."
    return None


def _graph_of_checkpoint(path: str) -> str:
    meta = _CHECKPOINT_PART.sub("", path) + ".meta"
    if os.path.isfile(meta):
        return f"Give {meta}."
    folder = os.path.dirname(os.path.dirname(os.path.abspath(path)))
    if os.path.isfile(os.path.join(folder, "saved_model.pb")):
        return f"Give {folder}, the folder of the SavedModel."
    return f"Give the .meta file of this checkpoint; it is not beside it: {meta}."
