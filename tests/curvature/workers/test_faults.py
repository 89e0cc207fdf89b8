"""Workers that die, hang or come back, in processes of their own: the undisturbed bits."""

import resource
import signal
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.curvature import killed_program
from tests.curvature.workers.network import network, same, vectors
from tests.support import clusters
from tests.support.processes import output_of, run_forked

NUM_WORKERS = 3
NUM_VECTORS = 4
# Seconds for a call, and beyond it for a machine that does other things too.
LIMIT, SLOWNESS = 6.0, 60.0


class Disturbed:
    """Feeds that do something when a batch of a pass is read; batches before it are on workers."""

    def __init__(self, feeds):
        self.feeds, self.at, self.act = feeds, None, None

    def __iter__(self):
        for number, feed in enumerate(self.feeds):
            if number == self.at:
                self.at = None
                self.act()
            yield feed


class Running:
    """A network, its Hessian without workers and on some, and what is to come out."""

    def __init__(self, network, tasks):
        self.network, self.tasks = network, tasks
        self.feeds = Disturbed(4 * network.feeds)
        targets = [task.target for task in tasks]
        self.operator = network.operator(workers=targets, feeds=self.feeds, worker_timeout=LIMIT)
        self.expected = network.operator(feeds=self.feeds) @ vectors(NUM_VECTORS)
        self.pool = self.operator._data.workers
        self.undisturbed()

    def disturb(self, act, at=9):
        """Compute, and do something in the middle; return the seconds that it took."""
        self.feeds.at, self.feeds.act = at, act
        begin = time.monotonic()
        same(self.operator @ vectors(NUM_VECTORS), self.expected)
        assert self.feeds.at is None
        return time.monotonic() - begin

    def undisturbed(self):
        same(self.operator @ vectors(NUM_VECTORS), self.expected)

    def all_are_back(self):
        """Compute until all workers take part."""
        end = time.monotonic() + SLOWNESS
        while str(self.pool) != f"{len(self.tasks)} of {len(self.tasks)} workers":
            assert time.monotonic() < end, [worker.said for worker in self.pool.workers]
            self.undisturbed()

    def well(self):
        return [worker.is_well for worker in self.pool.workers]


@pytest.fixture(scope="module")
def running():
    with clusters.started_apart(NUM_WORKERS) as cluster, network() as made:
        yield Running(made, cluster.tasks)


@pytest.fixture(autouse=True)
def whole(running):
    """All workers run and take part, before each test."""
    for task in running.tasks:
        if not task.alive:
            task.restart()
    running.all_are_back()


def test_one_is_killed_in_the_middle_of_a_product(running):
    assert running.disturb(running.tasks[1].kill) < LIMIT + SLOWNESS
    running.undisturbed()
    assert running.well() == [True, False, True]


@pytest.mark.lengthy
def test_one_hangs_and_goes_on_later(running):
    try:
        assert running.disturb(running.tasks[0].stop) < LIMIT + SLOWNESS
        running.undisturbed()
    finally:
        running.tasks[0].resume()


@pytest.mark.lengthy
def test_the_last_one_hangs_for_no_longer_than_its_limit(running):
    for task in running.tasks[1:]:
        task.kill()
    try:
        begin = time.monotonic()
        with pytest.raises(
            tf.errors.UnavailableError, match=f"no answer within {LIMIT:g} s|Deadline"
        ):
            running.disturb(running.tasks[0].stop)
        # A call, its repetition in a new session, and the time to wait for a worker.
        assert time.monotonic() - begin < 3 * LIMIT + SLOWNESS
    finally:
        running.tasks[0].kill()


def test_one_comes_back_empty_in_the_middle_of_a_product(running):
    running.disturb(running.tasks[2].restart)
    running.all_are_back()


def test_all_come_back_empty_between_products(running):
    for task in running.tasks:
        task.restart()
    running.undisturbed()


def worker_session(running, number):
    return running.pool.workers[number]._connection._session


def test_one_gets_other_parameters(running):
    program = running.pool._program
    loader = program.variables["out/scale"]

    def change():
        session = worker_session(running, 1)
        session.run(loader.assign, {loader.value: np.float32([7.0, -1.0])})

    for at in (0, 12):
        running.disturb(change, at)
        assert running.well() == [True] * NUM_WORKERS
        digests = worker_session(running, 1).run(program.digests)
        assert program.agrees(digests, running.pool._values)


def test_other_programs_with_the_same_names_change_nothing(running):
    with tf.Graph().as_default():
        others = [
            tf.get_variable("kernel/part_0", [2], use_resource=False),
            tf.get_variable("out/scale", initializer=np.float32([9.0, 9.0]), use_resource=True),
        ]
        with tf.Session(running.tasks[0].target) as session:
            running.disturb(lambda: session.run(tf.variables_initializer(others)))
            same(session.run(others[1]), np.float32([9.0, 9.0]))


def test_no_worker_is_left(running, monkeypatch):
    monkeypatch.setattr("tf1xent.curvature.workers.passes._PATIENCE", 1.0)

    def kill_all():
        for task in running.tasks:
            task.kill()

    with pytest.raises(tf.errors.UnavailableError) as caught:
        running.disturb(kill_all)
    message = str(caught.value)
    assert message.startswith("HessianOperator: `workers` must be there, but none of 3 is left.")
    for task in running.tasks:
        assert f"{task.target}: " in message
    assert "with a `log`, finished products are not computed again" in message


@pytest.mark.lengthy
def test_a_batch_that_takes_too_long_everywhere(running, monkeypatch):
    operator = running.network.operator(workers=[t.target for t in running.tasks])
    operator.loss()
    monkeypatch.setattr("tf1xent.curvature.workers.worker.Connection._computed", late)
    with pytest.raises(tf.errors.DeadlineExceededError, match="batch 0: .*`worker_timeout`"):
        operator.loss()


def late(*arguments):
    if arguments[-2].fetches:
        raise tf.errors.DeadlineExceededError(None, None, "Deadline Exceeded")


# --- The client -----------------------------------------------------------------------------------


@pytest.mark.lengthy
def test_the_disk_is_full_and_later_is_not(running, tmp_path):
    log = tmp_path / "log"
    targets = [task.target for task in running.tasks]
    operator = running.network.operator(workers=targets, feeds=running.feeds, log=log)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    operator @ vectors()  # one product and the header
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 50, before[1]))
    try:
        with pytest.raises(
            OSError, match="`log` must have room for a product, got: File too large"
        ):
            operator @ vectors(NUM_VECTORS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    again = running.network.operator(workers=targets, feeds=running.feeds, log=log)
    same(again @ vectors(NUM_VECTORS), running.expected)
    same(again @ vectors(), running.network.operator(feeds=running.feeds) @ vectors())
    assert again.num_products == NUM_VECTORS


@pytest.mark.exhaustive
def test_the_client_is_killed_and_goes_on_to_the_same_bits(running, tmp_path):
    targets = [task.target for task in running.tasks]
    whole, number = killed_program.run(tmp_path / "whole")
    killed = run_forked("-m", killed_program.__name__, tmp_path / "log", 11, *targets)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    resumed, computed = killed_program.run(tmp_path / "log", workers=targets)
    assert computed == number - 9
    for array, expected in zip(resumed, whole):
        assert array.tobytes() == expected.tobytes()
    assert (tmp_path / "log").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.lengthy
def test_a_program_with_a_hanging_worker_ends(running):
    code = f"""
import os
from tests.curvature.workers.network import *
with network() as made:
    operator = made.operator(workers={[task.target for task in running.tasks]!r})
    operator.loss()
    os.kill({running.tasks[0].pid}, {int(signal.SIGSTOP)})
    print(operator.loss())
"""
    try:
        assert float(output_of("-c", code)) == running.network.operator().loss()
    finally:
        running.tasks[0].resume()
