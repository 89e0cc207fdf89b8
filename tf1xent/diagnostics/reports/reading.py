"""Reads a step back from the folder that `write_dump` has made."""

import json
import os
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from tf1xent._typing import Path
from tf1xent.diagnostics.replaying.step import History, no_history
from tf1xent.diagnostics.reports.dumping import CHECKPOINT, FEEDS, HISTORY, JSON


class Dump(NamedTuple):
    """What a folder holds.

    Attributes:
      prefix: of the checkpoint; the graph has the same name and ".meta".
      feeds: by name of a tensor, its value.
      loss: the name of the loss.
      updates: the names of the ops that update the variables; none if the graph has no optimizer.
      number: the step, or None.
      value: the loss as the program's own run gave it, or None.
      error: the message with which the program's own run ended, or None.
      history: the `History` of the steps before.
      lines: by cause and tensor of a finding, the line of the program, which the graph's file does
        not hold.
    """

    prefix: str
    feeds: Dict[str, np.ndarray]
    loss: str
    updates: List[str]
    number: Optional[int]
    value: Optional[float]
    error: Optional[str]
    history: History
    lines: Dict[Tuple[str, Optional[str]], Optional[str]]


def read_dump(folder: Path, caller: str) -> Dump:
    """Reads a folder; `caller` names the function or command in errors.

    Raises:
      ValueError: it is no folder of `write_dump`.
      OSError: a file cannot be read.
    """
    folder = os.fspath(folder)
    path = os.path.join(folder, JSON)
    if not os.path.isfile(path):
        raise ValueError(
            f"{caller}: {folder} must be a folder that a hook with `dump_dir` wrote, but it has no "
            f"{JSON}. Give a graph and a checkpoint by --meta instead."
        )
    try:
        with open(path, encoding="utf-8") as file:
            about: Dict[str, Any] = json.load(file)
        feeds = _arrays(os.path.join(folder, FEEDS))
        log = os.path.join(folder, HISTORY)
        history = _history(_arrays(log)) if os.path.isfile(log) else no_history()
        return Dump(
            prefix=os.path.join(folder, CHECKPOINT),
            feeds=feeds,
            loss=str(about["loss"]),
            updates=list(about["updates"]),
            number=about["step"],
            value=None if about["value"] is None else float(about["value"]),
            error=about["error"],
            history=history,
            lines={(found["cause"], found["tensor"]): found["line"] for found in about["findings"]},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{caller}: {folder} is damaged: {error!r}.") from error


def _arrays(path: str) -> Dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _history(arrays: Dict[str, np.ndarray]) -> History:
    """Puts a history together from what `write_dump` made of its fields."""
    values = {name: array if array.ndim else array.item() for name, array in arrays.items()}
    found: Dict[str, Any] = {}
    for field, default in no_history()._asdict().items():
        if isinstance(default, dict):
            begin = field + "/"
            found[field] = {n[len(begin) :]: v for n, v in values.items() if n.startswith(begin)}
        else:
            found[field] = values.get(field, default)
    return History(**found)
