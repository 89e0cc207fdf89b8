"""Keeps a step that went wrong in a folder: its feeds, its variables, its graph, and a script."""

import json
import os
import shutil
import uuid
import warnings
from typing import Any, Dict, List, Mapping, Optional

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Path
from tf1xent.diagnostics.diagnosis import Diagnosis, as_json
from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.replaying.step import History, Step
from tf1xent.diagnostics.reports.program_files import meta_graph, write_checkpoint
from tf1xent.diagnostics.reports.script import script_text
from tf1xent.diagnostics.reports.text import headline
from tf1xent.errors import DumpWarning

__all__ = ["write_dump"]

CHECKPOINT = "model"
FEEDS, HISTORY = "feeds.npz", "history.npz"
JSON, TEXT, SCRIPT = "diagnosis.json", "diagnosis.txt", "run_step.py"


def write_dump(
    diagnosis: Diagnosis,
    program: Program,
    step: Step,
    folder: Path,
    history: Optional[History] = None,
) -> Optional[str]:
    """Writes all that it takes to run a step again into a new folder.

    Use it when a step has gone wrong; a hook with `dump_dir` does. The new folder has the feeds
    (``feeds.npz``), the variables from before the update as a checkpoint of TensorFlow's with the
    graph (``model.index``, ``model.meta``), the diagnosis (``diagnosis.txt``, ``diagnosis.json``),
    and a script that runs the step and needs only TensorFlow (``run_step.py``). ``tf1xent diagnose
    FOLDER`` reads it. It is there whole or not at all, and training goes on in any case.

    Args:
      diagnosis: a `Diagnosis`.
      program: the `Program`.
      step: the `Step`; its variables are those from before the update.
      folder: where to make the new folder; it is made if it is not there.
      history: the `History` of the steps before, to be judged with.

    Returns:
      The path of the new folder, ``FOLDER/step-NUMBER`` or, if that is taken, with a further
      number; or None, if it cannot be written.

    Warns:
      tf1xent.errors.DumpWarning: it cannot be written; or a part of the step cannot be kept.

    Example:

    >>> import os, tempfile
    >>> import numpy as np
    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.diagnostics import Diagnosis
    >>> from tf1xent.diagnostics.program.program import Program
    >>> from tf1xent.diagnostics.reports.dumping import write_dump
    >>> from tf1xent.diagnostics.replaying.step import Step
    >>> with tf.Graph().as_default() as graph:
    ...     x = tf.placeholder(tf.float32, [2], name="x")
    ...     w = tf.get_variable("w", [2])
    ...     loss = tf.reduce_sum(tf.log(x * w), name="loss")
    >>> step = Step(7, {"x:0": np.zeros(2)}, {"w": np.ones(2, np.float32)})
    >>> found = Diagnosis("the loss is -inf", 7, [], "every op by itself", True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_dump(found, Program(graph, loss), step, folder)
    ...     print(os.path.basename(path), sorted(os.listdir(path))[:4])
    step-7 ['checkpoint', 'diagnosis.json', 'diagnosis.txt', 'feeds.npz']
    """
    folder = os.path.abspath(os.fspath(folder))
    temporary = os.path.join(folder, f"tf1xent-{uuid.uuid4().hex}.partial")
    name = "diagnosis" if step.number is None else f"step-{step.number}"
    try:
        os.makedirs(temporary)
        try:
            notes = _write(temporary, diagnosis, program, step, history)
            path = _moved(temporary, os.path.join(folder, name))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except Exception as error:  # whatever it is, training must go on
        _warn(f"{folder}: the step is not kept, and training goes on: {_tf.error_line(error)}")
        return None
    for note in notes:
        _warn(f"{path}: {note}")
    return path


def _write(
    folder: str,
    diagnosis: Diagnosis,
    program: Program,
    step: Step,
    history: Optional[History],
) -> List[str]:
    """Writes all files; returns what could not be kept."""
    notes: List[str] = []
    prefix = os.path.join(folder, CHECKPOINT)
    _save_arrays(os.path.join(folder, FEEDS), _storable(step.feeds, notes))
    if history is not None:
        _save_arrays(os.path.join(folder, HISTORY), _flat(history))
    if step.variables:
        write_checkpoint(step.variables, prefix)
    try:
        graph = meta_graph(program, step.variables)
    except Exception as error:  # what TensorFlow raises about a graph differs by version
        notes.append(f"The graph cannot be exported: {_tf.error_line(error)}")
    else:
        with open(prefix + ".meta", "wb") as file:
            file.write(graph.SerializeToString())
    notes += _not_kept(program, step)
    said = notes + _random(program)
    gradients = {u.variable: u.gradient.name for u in program.updates if u.gradient is not None}
    script = script_text(
        headline(diagnosis),
        program.loss.name,
        gradients,
        name=CHECKPOINT,
        feeds=FEEDS,
        has_tables=bool(program.graph.get_collection(tf.GraphKeys.TABLE_INITIALIZERS)),
        notes=said,
    )
    about: Dict[str, Any] = {
        **diagnosis.to_dict(),
        "loss": program.loss.name,
        "updates": [u.op.name for u in program.updates] if program.has_optimizer else [],
        "value": as_json(step.loss),
        "error": step.error,
        "not_kept": notes,
    }
    _write_text(os.path.join(folder, JSON), json.dumps(about, indent=2, allow_nan=False))
    _write_text(os.path.join(folder, TEXT), "\n".join([str(diagnosis), *said]))
    _write_text(os.path.join(folder, SCRIPT), script.rstrip("\n"))
    return notes


def _not_kept(program: Program, step: Step) -> List[str]:
    """Returns sentences on what the step has read and the files do not hold."""
    sources = [tensor for tensor in program.sources if tensor.name not in step.feeds]
    functions = [f"`{t.name}`" for t in sources if "PyFunc" in t.op.type]
    data = [f"`{t.name}`" for t in sources if "PyFunc" not in t.op.type]
    notes = []
    if functions:
        notes.append(
            f"{', '.join(functions)} call Python functions of the program, which no file holds: "
            "feed their values."
        )
    if data:
        notes.append(f"The values of {', '.join(data)} were not kept: feed them.")
    missing = sorted(set(program.variables) - set(step.variables))
    if missing:
        notes.append(f"The values of the variables {', '.join(missing)} were not kept.")
    return notes


def _random(program: Program) -> List[str]:
    """Returns a sentence on random numbers, if the step draws any."""
    names = program.random_ops
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    shown = ", ".join(f"`{name}`" for name in names[:3])
    return [f"Each run draws other random numbers ({shown}{more}) than the step that went wrong."]


def _storable(feeds: Mapping[str, np.ndarray], notes: List[str]) -> Dict[str, np.ndarray]:
    """Returns arrays that a file holds without pickling, which would run code when it is read."""
    found = {}
    for name, value in feeds.items():
        array = np.asarray(value)
        if array.dtype.kind == "V":  # bfloat16, which a file of NumPy's cannot name
            array = array.astype(np.float32)
        elif array.dtype.kind == "O":
            strings = [tf.compat.as_bytes(text) for text in array.ravel().tolist()]
            if any(text.endswith(b"\0") for text in strings):
                notes.append(f"The value of `{name}` was not kept: its strings end with 0 bytes.")
                continue
            array = np.array(strings, dtype=np.bytes_).reshape(array.shape)
        found[name] = array
    return found


def _flat(history: History) -> Dict[str, np.ndarray]:
    """Returns the fields of a history by name; those by variable as "FIELD/VARIABLE"."""
    found = {}
    for field, value in history._asdict().items():
        parts = value if isinstance(value, dict) else None
        if parts is None:
            found[field] = np.asarray(value)
        else:
            found.update({f"{field}/{name}": np.asarray(part) for name, part in parts.items()})
    return found


def _save_arrays(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    with open(path, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _write_text(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n")


def _moved(temporary: str, target: str) -> str:
    """Gives a folder its name, or that with the first number that is free."""
    number = 1
    path = target
    while True:
        if not os.path.lexists(path):
            try:
                os.rename(temporary, path)
                return path
            except FileExistsError:  # another process was faster
                pass
            except OSError as error:
                if not os.path.lexists(path):
                    raise error
        number += 1
        path = f"{target}-{number}"


def _warn(text: str) -> None:
    warnings.warn(f"write_dump: {text}", DumpWarning, stacklevel=3)
