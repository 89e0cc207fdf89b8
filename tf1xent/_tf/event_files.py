"""Event files, which TensorBoard reads.

An event file is a TFRecord file of Event protos, the first of which says so. Written like this it
needs neither a graph nor a thread, and eager execution does not refuse it; TensorBoard reads it
like those of a `tf.summary.FileWriter`.
"""

import itertools
import os
import socket
import time

import tensorflow.compat.v1 as tf

from tf1xent._typing import Path, Proto

_VERSION = "brain.Event:2"
_numbers = itertools.count()


def write_event_file(folder: Path, step: int, summary: Proto) -> str:
    """Writes a summary at a step of training to an event file of its own.

    Args:
      folder: of the event file; it is made if it is not there.
      step: of training, as TensorBoard's horizontal axis.
      summary: a `tf.Summary`.

    Returns:
      The path of the event file, a new one.

    Raises:
      OSError, tf.errors.OpError: it cannot be written.
    """
    os.makedirs(os.fspath(folder), exist_ok=True)
    # The number keeps apart what one process writes in one second, in the order of writing.
    place = f"{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.{next(_numbers):06d}"
    path = os.path.join(os.fspath(folder), f"events.out.tfevents.{place}")
    now = time.time()
    with tf.python_io.TFRecordWriter(path) as writer:
        for event in (
            tf.Event(wall_time=now, file_version=_VERSION),
            tf.Event(wall_time=now, step=step, summary=summary),
        ):
            writer.write(event.SerializeToString())
    return path
