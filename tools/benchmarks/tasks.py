"""Clusters for benchmarks: each task a process with a processor of its own, ended for certain.

Run as `PYTHON tasks.py CLUSTERS`, this is all tasks: it imports TensorFlow once, forks a process
for each, and says so when it is ready. All end with its input.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence

HOST, JOB, READY = "127.0.0.1", "worker", "ready"
Spec = Dict[str, List[str]]


@contextlib.contextmanager
def started(numbers: Sequence[int]) -> Iterator[List[Spec]]:
    """Starts clusters of so many tasks each, all of one job; ends their processes at the end.

    Task i of each cluster has the i-th processor of this process, counted round, alone.

    Yields:
      the clusters, {job: [address]}, once every task is ready.
    """
    ports = iter(free_ports(sum(numbers)))
    specs = [{JOB: [f"{HOST}:{next(ports)}" for _ in range(n)]} for n in numbers]
    process: Any = subprocess.Popen(
        [sys.executable, str(Path(__file__)), json.dumps(specs)],
        stdin=subprocess.PIPE,  # ends with this process, however that ends
        stdout=subprocess.PIPE,
        universal_newlines=True,
        start_new_session=True,  # a group of its own, and so are the tasks' forks
    )
    try:
        for _ in range(sum(numbers)):
            line = process.stdout.readline()
            if not line.startswith(READY):
                sys.exit(f"benchmarks: a task of a cluster does not start: {line or 'it ended'}")
        yield specs
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def free_ports(number: int) -> List[int]:
    """Returns ports that are free on loopback now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


def processors_of_this_process() -> List[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def hold_to(processor: int) -> None:
    """Holds this process to one processor, before any library counts them."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [processor])


def main(specs: str) -> None:
    """Forks all tasks, and waits for the input to end, as they do."""
    import tensorflow.compat.v1 as tf

    processors = processors_of_this_process()
    tasks = [(spec, index) for spec in json.loads(specs) for index in range(len(spec[JOB]))]
    server = None
    for spec, index in tasks:
        if os.fork() == 0:
            hold_to(processors[index % len(processors)])
            try:
                server = tf.train.Server(spec, job_name=JOB, task_index=index)
                _say(f"{READY} {server.target}")
            except tf.errors.OpError as error:  # another process has taken the port
                _say(error.message)
            break
    sys.stdin.read()
    os._exit(0)  # a server has no end of its own


def _say(line: str) -> None:
    """Prints a line in one piece: all tasks write to the same pipe."""
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
