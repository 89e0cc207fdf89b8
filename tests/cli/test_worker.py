"""`tf1xent worker`: one process through its whole life, and what is refused."""

import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.support import processes
from tests.support.addresses import is_closed, is_open, outer_address
from tf1xent import cli, kernels
from tf1xent.curvature.workers import loopback
from tf1xent.curvature.workers.serving import port_of, start_worker

OUTER = outer_address()
# A machine that does other things too imports TensorFlow slowly.
SECONDS_TO_END = 60
MILLISECONDS, FEW_MILLISECONDS = 60000, 2000
REFUSED = 2
LOGITS = [[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]]


def opened(target, milliseconds=MILLISECONDS):
    """A session at a worker, with a limit: one whose worker ends would else wait for ever."""
    return tf.Session(target, config=tf.ConfigProto(operation_timeout_in_ms=milliseconds))


def ran(target, fetches):
    """What a session at a worker fetches."""
    with opened(target) as session:
        return session.run(fetches)


def kernel_loss(target):
    """The loss of an op that the worker must have loaded; None if nothing is built."""
    if not kernels.available():
        return None
    with tf.Graph().as_default():
        op = kernels.library().tf1xent_kernel_sparse_loss
        return ran(target, op(logits=LOGITS, labels=[1, 0], precise=True).loss)


def endless_step(target):
    """Has a worker begin a step that it cannot finish; returns the thread that waits for it."""

    def run():
        with tf.Graph().as_default():
            start = (0, tf.random_normal([300, 300]))
            loop = tf.while_loop(
                lambda i, x: i < 10**8, lambda i, x: (i + 1, tf.tanh(tf.matmul(x, x))), start
            )
            session = opened(target, FEW_MILLISECONDS)  # nobody is there to close it
            with pytest.raises(tf.errors.OpError):
                session.run(loop, options=tf.RunOptions(timeout_in_ms=FEW_MILLISECONDS))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.fixture(scope="module")
def life():
    """Starts a worker, asks all that is asked of it, and ends it in the middle of a step."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tf1xent", "worker", "--threads", "1"],
        env=processes.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    try:
        line = process.stdout.readline()
        target = line.strip()
        port = int(target.rpartition(":")[2])
        found = SimpleNamespace(line=line, target=target, port=port)
        with tf.Graph().as_default(), tf.device("/job:worker/task:0/cpu:0"):
            found.square = ran(target, tf.square(tf.constant(3.0)))
        found.is_here = is_open("127.0.0.1", port)
        found.is_hidden = OUTER is None or is_closed(OUTER, port)
        found.kernel_loss = kernel_loss(target)
        thread = endless_step(target)
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        found.output, found.errors = process.communicate(timeout=SECONDS_TO_END)
        found.code = process.returncode
        thread.join()
    finally:
        process.kill()
        process.wait()
    return found


def test_it_prints_its_target_and_nothing_else(life):
    assert life.line == f"grpc://127.0.0.1:{life.port}\n"
    assert life.output == ""


def test_it_computes_as_the_only_task_of_its_job(life):
    assert life.square == 9.0


def test_it_is_reached_from_this_machine_only(life):
    assert life.is_here
    # The kernel of other systems has no such filter: there it would not have started.
    assert life.is_hidden


@pytest.mark.skipif(not kernels.available(), reason="the native kernels are not built")
def test_it_has_the_native_kernels(life):
    logits = np.array(LOGITS)
    want = np.log(np.exp(logits).sum(1)) - logits[[0, 1], [1, 0]]
    np.testing.assert_allclose(life.kernel_loss, want, rtol=1e-5)


def test_a_signal_ends_it_also_in_the_middle_of_a_step(life):
    assert life.code == 128 + signal.SIGTERM
    assert life.errors == "tf1xent: stopped by SIGTERM.\n"
    assert is_closed("127.0.0.1", life.port)


# What is refused ---------------------------------------------------------------------------------


def refusal(capsys, *arguments):
    """Runs the command, which must not start; returns what it says."""
    code = cli.main(["worker", *arguments])
    output, errors = capsys.readouterr()
    assert (code, output) == (REFUSED, "")
    assert errors.startswith("tf1xent worker: ") and errors.count("\n") == 1
    return errors


def test_a_port_in_use_is_refused(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        said = refusal(capsys, "--port", str(port))
    assert f"`port` must be one that can be had, got {port}: Address already in use." in said


def test_a_number_that_is_no_port_is_refused(capsys):
    assert "`port` must be from 0 to 65535, got 70000." in refusal(capsys, "--port", "70000")


@pytest.mark.parametrize("interfaces", [["lo", "eth7", "wlan0"], None])
def test_it_is_not_open_to_others_without_being_asked(interfaces, capsys, monkeypatch):
    def names():
        if interfaces is None:
            raise OSError("not told")
        return list(enumerate(interfaces, 1))

    monkeypatch.setattr(loopback, "_SO_ATTACH_FILTER", 9999)
    monkeypatch.setattr(socket, "if_nameindex", names)
    said = refusal(capsys)
    assert ("eth7, wlan0" if interfaces else "whose network interfaces are unknown") in said
    assert "no authentication" in said and said.endswith("--listen-on-all-interfaces.\n")


# From Python -------------------------------------------------------------------------------------


@pytest.mark.skipif(OUTER is None, reason="needs a network interface besides the loopback")
def test_all_interfaces_where_that_is_asked_for():
    server = start_worker(listen_on_all_interfaces=True)
    assert is_open(OUTER, port_of(server))


def test_a_machine_without_other_interfaces_needs_no_limit(monkeypatch):
    monkeypatch.setattr(loopback, "_SO_ATTACH_FILTER", 9999)
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo")])
    server = start_worker(threads=3)
    config = server.server_def.default_session_config
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (3, 3)
    with tf.Graph().as_default():
        assert ran(server.target, tf.constant(2.0)) == 2.0
