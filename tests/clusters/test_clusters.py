"""The servers that tests start: they end, they stop, they come back empty."""

import os
import signal
import subprocess
import sys
import time

import pytest
import tensorflow.compat.v1 as tf

from tests.support import clusters, processes

KILLED = """
import os, signal
from tests.support import clusters

with clusters.started_apart(2) as cluster:
    cluster.tasks[0].stop()
    print(*(task.pid for task in cluster.tasks), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def is_running(pid):
    """Tells whether there is such a process; one that nobody has waited for is not running."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def value_of(variable, target, initialize=False):
    """Returns the variable's value on a server, None if it has none."""
    with tf.Session(target, graph=variable.graph) as session:
        if initialize:
            session.run(variable.initializer)
        missing = session.run(tf.report_uninitialized_variables([variable]))
        return None if missing.size else session.run(variable)


def test_a_task_stops_goes_on_ends_and_comes_back_empty():
    with clusters.started(ps=1, worker=1) as cluster, tf.Graph().as_default():
        first, last = cluster.tasks
        with tf.device(last.device):
            variable = tf.get_variable("v", initializer=2.0)
        assert value_of(variable, first.target, initialize=True) == 2.0
        last.stop()
        assert last.alive
        last.resume()
        assert value_of(variable, first.target) == 2.0
        last.restart()
        assert value_of(variable, first.target) is None
        value_of(variable, first.target, initialize=True)
        cluster.reset()
        assert value_of(variable, first.target) is None
        last.stop()
        last.kill()
        assert not last.alive
        assert first.alive
    assert not first.alive


def test_a_taken_port_is_an_error_that_says_so():
    with clusters.started_apart(1) as cluster:
        (task,) = cluster.tasks
        attempts = []

        def specs():
            attempts.append(task.address)
            return [({"worker": [task.address]}, "worker", 0)]

        with pytest.raises(RuntimeError, match="task 0 of job worker at .* ended before"):
            with clusters._running(specs):
                pass
        assert len(attempts) == clusters.NUM_ATTEMPTS


def test_tasks_end_when_their_test_does():
    with pytest.raises(KeyboardInterrupt):
        with clusters.started_apart(1) as cluster:
            raise KeyboardInterrupt
    assert not cluster.tasks[0].alive


@pytest.mark.exhaustive
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads /proc")
def test_tasks_end_with_tests_that_are_killed():
    result = subprocess.run(
        [sys.executable, "-c", KILLED],
        env=processes.environment(),
        stdout=subprocess.PIPE,
        timeout=120,
    )
    assert result.returncode == -signal.SIGKILL
    pids = result.stdout.decode().split()
    assert len(pids) == 2
    deadline = time.monotonic() + 60
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, pids))
