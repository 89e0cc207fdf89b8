"""Runs the command in a process of its own, as its users do."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

from tests import ROOT


def environment(*folders, **variables):
    """The environment of a process that looks into `folders` before all others."""
    paths = os.pathsep.join([*map(str, folders), str(ROOT)])
    return dict(os.environ, PYTHONPATH=paths, **variables)


def doctor(*folders, arguments=(), cwd=None, **variables):
    """The exit code, the output and the errors of a run."""
    process = subprocess.run(
        [sys.executable, "-m", "tf1xent", "doctor", *arguments],
        env=environment(*folders, **variables),
        cwd=str(cwd or ROOT),
        capture_output=True,
        text=True,
    )
    return SimpleNamespace(code=process.returncode, output=process.stdout, errors=process.stderr)


def findings(*folders, **variables):
    """The exit code and the JSON of a run that says nothing on stderr."""
    ran = doctor(*folders, arguments=["--json"], **variables)
    assert ran.errors == ""
    return ran.code, json.loads(ran.output)
