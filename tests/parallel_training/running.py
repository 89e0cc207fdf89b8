"""Starts distributed programs as their users do: one process a task, on loopback."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tests.support import processes
from tests.support.clusters import HOST, free_ports
from tests.support.processes import starter

PROGRAMS = Path(__file__).resolve().parent / "programs"
# By what stands before the program's first line.
BEFORE = {
    "stock": [],
    "patch": ["tf1xent.patch"],
    "override": ["tf1xent.override_gradients"],
}
SECONDS = 240
# For the other tasks to say what they have to say once one has failed.
SECONDS_AFTER_FAILURE = 2.0
IMPORTED = ("sklearn.datasets", "tf1xent.patching", "tf1xent.gradients")


def run(folder, script, *arguments, before="stock", awaited="worker", **jobs):
    """Runs a program as a cluster.

    Args:
      folder: for what the processes print and write; is made.
      script: the program's name in the folder `programs`.
      *arguments: of all its processes.
      before: one of `BEFORE`.
      awaited: how the names of the tasks begin that end by themselves. The others serve until they
        are killed.
      **jobs: how many tasks each job has, as in ``ps=1, worker=2``; none for a program that is one
        process.

    Returns:
      What each process that ends has written to its file of results, as a namespace with `output`
      beside the arrays.
    """
    folder.mkdir()
    for module in IMPORTED:
        starter().ask("import", module)
    pids, deadline = {}, time.monotonic() + SECONDS + SECONDS_AFTER_FAILURE
    codes = {}
    try:
        for name, task in tasks_of(jobs):
            given = [*task, f"--results={folder / name}.npz", *arguments]
            program, output = PROGRAMS / f"{script}.py", folder / f"{name}.txt"
            pids[name] = starter().run(
                [program, *given], output, output, calls=BEFORE[before], seconds=SECONDS
            )
        while any(name.startswith(awaited) and name not in codes for name in pids):
            for name in set(pids) - set(codes):
                status = starter().ask("poll", pids[name])
                if status is not None:
                    codes[name] = status
                    if status:
                        deadline = min(deadline, time.monotonic() + SECONDS_AFTER_FAILURE)
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
    finally:
        for pid in pids.values():
            starter().ask("kill", pid)
    return [found(folder, name, codes.get(name)) for name in pids if name.startswith(awaited)]


def run_commands(folder, script, *arguments, **jobs):
    """Runs a program as a cluster by `python -m tf1xent run`, a command for each task.

    Returns:
      As `run`, of the workers.
    """
    folder.mkdir()
    started, statuses = {}, {}
    try:
        for name, task in tasks_of(jobs):
            given = [*task, f"--results={folder / name}.npz", *arguments]
            command = [sys.executable, "-m", "tf1xent", "run", str(PROGRAMS / f"{script}.py")]
            with open(str(folder / f"{name}.txt"), "wb") as output:
                started[name] = subprocess.Popen(
                    [*command, *given],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=processes.environment(),
                )
        deadline = time.monotonic() + SECONDS
        for name, process in started.items():
            if name.startswith("worker"):
                statuses[name] = process.wait(max(deadline - time.monotonic(), 0.0))
    finally:
        for process in started.values():
            process.kill()
            process.wait()
    return [found(folder, name, status) for name, status in statuses.items()]


def found(folder, name, status):
    """Returns the results of a process that has ended well."""
    output = (folder / f"{name}.txt").read_text(errors="replace")
    assert status == 0, f"{name} ended with the status {status}:\n{output[-4000:]}"
    with np.load(str(folder / f"{name}.npz")) as arrays:
        return SimpleNamespace(output=output, **arrays)


def tasks_of(jobs):
    """Returns (name, the flags that tell it the cluster and its place in it) of each task."""
    if not jobs:
        return [("worker", [])]
    ports = iter(free_ports(sum(jobs.values())))
    hosts = {job: [f"{HOST}:{next(ports)}" for _ in range(number)] for job, number in jobs.items()}
    cluster = [f"--{job}_hosts={','.join(addresses)}" for job, addresses in hosts.items()]
    return [
        (f"{job}-{index}", [f"--job_name={job}", f"--task_index={index}", *cluster])
        for job, number in jobs.items()
        for index in range(number)
    ]
