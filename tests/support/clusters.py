"""Real TensorFlow servers for tests: a process each, on loopback, ended for certain.

The first one costs what importing TensorFlow does, two to seven seconds; those after it are forked
from the same process, in a tenth of a second::

    @pytest.fixture(scope="module")
    def cluster():
        with clusters.started(worker=2) as cluster:
            yield cluster

Tasks keep variables by name from session to session; `Cluster.reset` drops them.
"""

import contextlib
import os
import signal
import socket
import tempfile
import time
from pathlib import Path

from tests.support.processes import SECONDS_TO_START, starter

HOST = "127.0.0.1"
NUM_ATTEMPTS = 3
# Another process may take a free port before the server does.
PORT_TAKEN = ("Could not start gRPC server", "ddress already in use")
KIBIBYTE = 1024


class TaskProcess:
    """A process that serves one task.

    Attributes:
      job, index: the task's place in its cluster.
      address: "host:port".
      target: what a session takes: "grpc://host:port".
      device: the name of the task's CPU.
      pid: the process id.
    """

    def __init__(self, cluster, job, index, folder):
        self.job, self.index = job, index
        self.address = cluster[job][index]
        self.target = f"grpc://{self.address}"
        self.device = f"/job:{job}/task:{index}/cpu:0"
        self._arguments = (cluster, job, index, str(folder))
        self._folder = Path(folder)
        self.start()

    def start(self):
        """Starts the process; `wait` until it is ready."""
        for name in ("out", "err"):
            (self._folder / name).write_bytes(b"")
        self.pid = starter().ask("start", *self._arguments)

    def wait(self, deadline):
        """Returns once the task says that it is ready; RuntimeError if it ends, or at the deadline.

        Args:
          deadline: on the clock of time.monotonic.
        """
        while "ready" not in self.output:
            if not self.alive:
                raise RuntimeError(f"{self} ended before it was ready:\n{self.errors[-2000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self} is not ready in time:\n{self.errors[-2000:]}")
            time.sleep(0.01)

    def restart(self):
        """Kills the process, starts another on the same port, without variables, and waits."""
        self.kill()
        self.start()
        self.wait(time.monotonic() + SECONDS_TO_START)

    def kill(self):
        """Ends the process at once (SIGKILL), also a stopped one."""
        starter().ask("kill", self.pid)

    def stop(self):
        """Stops the process (SIGSTOP): its connections stay, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self):
        """Lets a stopped process go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def alive(self):
        """Whether the process is there; a stopped one is."""
        return starter().ask("poll", self.pid) is None

    @property
    def output(self):
        """What it printed since it started."""
        return (self._folder / "out").read_text(encoding="utf-8", errors="replace")

    @property
    def errors(self):
        """What it wrote to stderr since it started."""
        return (self._folder / "err").read_text(encoding="utf-8", errors="replace")

    def __str__(self):
        return f"task {self.index} of job {self.job} at {self.address}"


class Cluster:
    """Tasks that run.

    Attributes:
      tasks: the processes: in one cluster in the order of jobs, else by number.
      spec: {job: [address]}; None for single-task clusters.
    """

    def __init__(self, tasks, spec):
        self.tasks, self.spec = tasks, spec

    @property
    def targets(self):
        """Of all tasks."""
        return [task.target for task in self.tasks]

    @property
    def devices(self):
        """Of all tasks."""
        return [task.device for task in self.tasks]

    def reset(self):
        """Drops the variables that the tasks keep, and closes the sessions on them."""
        import tensorflow.compat.v1 as tf

        for target in self.targets if self.spec is None else self.targets[:1]:
            tf.Session.reset(target)


def peak_memory(pid):
    """Returns the most bytes that a process held since it started, or since `reset_peak_memory`.

    None where there is no /proc (not on Linux): a test that asks has to skip there.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * KIBIBYTE


def reset_peak_memory(pid):
    """Counts the peak of a process from what it holds now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def free_ports(number):
    """Returns ports that are free on loopback now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def started(**jobs):
    """Starts one cluster, say ``started(ps=1, worker=2)``; kills its processes at the end.

    Args:
      **jobs: how many tasks each job has.

    Yields:
      the Cluster, once every task is ready.
    """

    def specs():
        ports = iter(free_ports(sum(jobs.values())))
        spec = {job: [f"{HOST}:{next(ports)}" for _ in range(n)] for job, n in jobs.items()}
        return [(spec, job, index) for job, n in jobs.items() for index in range(n)]

    with _running(specs) as tasks:
        spec = {job: [t.address for t in tasks if t.job == job] for job in jobs}
        yield Cluster(tasks, spec)


@contextlib.contextmanager
def started_apart(number):
    """Starts clusters of one task each, job "worker"; kills their processes at the end.

    Yields:
      a Cluster of those tasks, without a spec.
    """

    def specs():
        return [({"worker": [f"{HOST}:{port}"]}, "worker", 0) for port in free_ports(number)]

    with _running(specs) as tasks:
        yield Cluster(tasks, None)


@contextlib.contextmanager
def _running(specs):
    """Yields tasks that are ready; starts again, on other ports, if a port was taken meanwhile."""
    for attempt in range(NUM_ATTEMPTS):
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            tasks = []
            try:
                for number, spec in enumerate(specs()):
                    own = Path(folder) / str(number)
                    own.mkdir()
                    tasks.append(TaskProcess(*spec, own))
                    stack.callback(tasks[-1].kill)
                deadline = time.monotonic() + SECONDS_TO_START
                for task in tasks:
                    task.wait(deadline)
            except RuntimeError as error:
                is_last = attempt == NUM_ATTEMPTS - 1
                if is_last or not any(reason in str(error) for reason in PORT_TAKEN):
                    raise
                continue
            yield tasks
            return
