"""What a program is run with, and how the Python that runs it is told: by its environment."""

import json
import os
import sys
from typing import Dict, List, Mapping, MutableMapping, NamedTuple, Optional

# The environment variable that holds the settings, as JSON.
VARIABLE = "TF1XENT_RUN"
_PATH = "PYTHONPATH"
# The folder of the `sitecustomize` that Python imports at its start.
STARTUP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "startup")


class Settings(NamedTuple):
    """What a program is run with.

    Attributes:
      implementation: as for `tf1xent.patch`.
      losses: as for `tf1xent.patch`.
      override_only: whether `tf1xent.override_gradients` is called, instead of `tf1xent.patch`.
      report: whether a report is printed at exit.
      compat: whether ``import tensorflow`` gives ``tensorflow.compat.v1``.
      children: whether processes that the program starts are patched too.
      python: which Python is meant: `this_python()`.
      pythonpath: the program's own PYTHONPATH, or None if it has none.
      is_child: whether this is a process that the program has started.
    """

    implementation: Optional[str]
    losses: bool
    override_only: bool
    report: bool
    compat: bool
    children: bool
    python: List[str]
    pythonpath: Optional[str]
    is_child: bool = False


def this_python() -> List[str]:
    """What two Python processes with the same version and the same packages agree in."""
    return [sys.version, sys.prefix]


def environment_with(settings: Settings, environment: Mapping[str, str]) -> Dict[str, str]:
    """Returns a copy of an environment, in which Python starts with the settings."""
    # An empty part of PYTHONPATH would stand for the working folder.
    paths = [STARTUP] + ([settings.pythonpath] if settings.pythonpath else [])
    result = dict(environment)
    result[_PATH] = os.pathsep.join(paths)
    write(settings, result)
    return result


def own_path(environment: Mapping[str, str]) -> Optional[str]:
    """Returns the PYTHONPATH of an environment, without what `environment_with` has put there."""
    paths = environment.get(_PATH)
    if paths is None or VARIABLE not in environment:
        return paths
    return os.pathsep.join(path for path in paths.split(os.pathsep) if path != STARTUP) or None


def read(environment: Mapping[str, str]) -> Optional[Settings]:
    """Returns the settings that an environment holds, or None."""
    text = environment.get(VARIABLE)
    return None if text is None else Settings(**json.loads(text))


def write(settings: Settings, environment: MutableMapping[str, str]) -> None:
    """Puts settings into an environment."""
    environment[VARIABLE] = json.dumps(settings._asdict())


def remove(settings: Settings, environment: MutableMapping[str, str]) -> None:
    """Takes the settings out of an environment: it is again as it was without them."""
    del environment[VARIABLE]
    if settings.pythonpath is None:
        del environment[_PATH]
    else:
        environment[_PATH] = settings.pythonpath
