#!/usr/bin/env python3
"""Kills a random worker in each of many products, and compares every answer bit by bit.

    python tools/worker_kills.py --workers 8 --runs 200

Each worker is `tf1xent worker` in a process of its own on this machine; all are forked from one
that has imported TensorFlow, so that a new one is there in a tenth of a second. A run is a
Hessian-vector product of a small network over some batches, each run with another vector. A random
worker is killed (SIGKILL) a moment after a random batch is read, and restarted on the same port
after the run; then products follow until all workers compute again, and their answers count too.
What is right was computed before by another worker, alone, which nobody kills. Prints a table; the
exit code is 1 if any answer differs.
"""

import argparse
import contextlib
import functools
import multiprocessing
import os
import random
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# Of all processes; NumPy's threads would not survive the fork.
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "OPENBLAS_NUM_THREADS": "1"}
HOST = "127.0.0.1"
IMPORTED_ONCE = "tf1xent.curvature.workers.serving"
SECONDS_TO_START, SECONDS_TO_RETURN = 180.0, 120.0
BATCHES, EXAMPLES, INPUTS, HIDDEN, CLASSES = 24, 128, 64, 64, 10
# A kill comes up to so many seconds after its batch is read.
LATEST = 0.02
MOMENT = 0.1


def serve(port: int, life: Any) -> None:
    """The process of a worker, which ends with the one that holds the other end of `life`."""

    def wait() -> None:
        try:
            life.recv()
        except EOFError:
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # where it says its target
    from tf1xent import cli

    sys.exit(cli.main(["worker", "--port", str(port), "--threads", "1"]))


class WorkerProcess:
    """A worker that can be killed and started again on the same port."""

    def __init__(self, context: Any, port: int) -> None:
        self._context, self.port = context, port
        self.start()

    def start(self) -> None:
        """Starts the process; `wait` until it listens."""
        life, self._life = self._context.Pipe()
        self._process = self._context.Process(target=serve, args=(self.port, life), daemon=True)
        self._process.start()

    def kill(self) -> None:
        """Ends the process at once."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()

    def wait(self) -> None:
        """Returns once it listens; RuntimeError if it never does."""
        end = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < end:
            if not self._process.is_alive():  # its port was somebody's for a moment
                time.sleep(MOMENT)
                self.start()
            try:
                socket.create_connection((HOST, self.port), 1.0).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"no worker listens at port {self.port}")


@contextlib.contextmanager
def started(number: int) -> Iterator[List[WorkerProcess]]:
    """Starts workers and waits for them; kills them at the end."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ.update(ENVIRONMENT, PYTHONPATH=os.pathsep.join(paths))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([IMPORTED_ONCE])
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind((HOST, 0))
        ports = [one.getsockname()[1] for one in sockets]
    with contextlib.ExitStack() as stack:
        workers = [WorkerProcess(context, port) for port in ports]
        for worker in workers:
            stack.callback(worker.kill)
            worker.wait()
        yield workers


class Data:
    """Batches; calls `act` soon after a batch is read, once."""

    def __init__(self, feeds: List[Dict[Any, Any]]) -> None:
        self._feeds = feeds
        self._batch, self._act, self._delay = -1, print, 0.0
        self._timer: Optional[threading.Timer] = None

    def arm(self, batch: int, delay: float, act: Any) -> None:
        """Has it call `act`, so many seconds after a batch is read."""
        self._batch, self._delay, self._act = batch, delay, act

    def done(self) -> bool:
        """Waits until it is called; returns whether that was before the wait."""
        assert self._timer is not None
        was_done = not self._timer.is_alive()
        self._timer.join()
        self._batch = -1
        return was_done

    def __iter__(self) -> Iterator[Dict[Any, Any]]:
        for number, feed in enumerate(self._feeds):
            if number == self._batch:
                self._timer = threading.Timer(self._delay, self._act)
                self._timer.start()
            yield feed


def operators(session: Any, alone: str, targets: List[str], timeout: float) -> Any:
    """Returns the operator on one worker, that on many, and the data of the latter."""
    import numpy as np
    import tensorflow.compat.v1 as tf

    import tf1xent
    from tf1xent.curvature import HessianOperator

    made = np.random.RandomState(0)
    features = tf.placeholder(tf.float32, [None, INPUTS])
    labels = tf.placeholder(tf.int64, [None])
    shapes = {"hidden": [INPUTS, HIDDEN], "logits": [HIDDEN, CLASSES]}
    xs = [
        tf.get_variable(name, initializer=tf.constant(made.normal(0, 0.2, shape), tf.float32))
        for name, shape in shapes.items()
    ]
    logits = tf.matmul(tf.tanh(tf.matmul(features, xs[0])), xs[1])
    loss = tf.reduce_mean(
        tf1xent.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )
    session.run(tf.global_variables_initializer())
    feeds = [
        {
            features: made.normal(size=[EXAMPLES, INPUTS]),
            labels: made.randint(CLASSES, size=[EXAMPLES]),
        }
        for _ in range(BATCHES)
    ]
    data = Data(feeds)
    reference = HessianOperator(session, loss, xs, feeds, workers=[alone])
    return (
        reference,
        HessianOperator(session, loss, xs, data, workers=targets, worker_timeout=timeout),
        data,
    )


class Figures(NamedTuple):
    """What came of the runs."""

    in_the_middle: int  # the worker was killed before its run had ended
    right: int
    later: int  # products between the runs, until all workers are back
    later_right: int
    seconds: float
    longest: float  # seconds of a run


def measured(processes: List[WorkerProcess], runs: int, seed: int, timeout: float) -> Figures:
    """Makes the runs; nobody kills the first worker."""
    import numpy as np
    import tensorflow.compat.v1 as tf

    chance = random.Random(seed)
    targets = [f"{HOST}:{process.port}" for process in processes]
    later: List[bool] = []
    in_the_middle, right, times = 0, 0, []
    with tf.Graph().as_default(), tf.Session() as session:
        reference, operator, data = operators(session, targets[0], targets[1:], timeout)
        vectors = np.random.RandomState(seed).normal(size=[runs, operator.shape[0]])
        want = [reference.matvec(vector).tobytes() for vector in vectors]

        def is_right(number: int) -> bool:
            return bool(operator.matvec(vectors[number]).tobytes() == want[number])

        later += until_all_compute(operator, lambda: is_right(0))
        begin = time.monotonic()
        for number in range(runs):
            victim = chance.choice(processes[1:])
            data.arm(chance.randrange(BATCHES), chance.uniform(0.0, LATEST), victim.kill)
            start = time.monotonic()
            right += is_right(number)
            times.append(time.monotonic() - start)
            in_the_middle += data.done()
            victim.start()
            victim.wait()
            later += until_all_compute(operator, functools.partial(is_right, number))
            print(f"\r{number + 1} of {runs}: {right} right", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    seconds = time.monotonic() - begin
    return Figures(in_the_middle, right, len(later), sum(later), seconds, max(times))


def until_all_compute(operator: Any, is_right: Callable[[], bool]) -> Iterator[bool]:
    """Makes products until each worker has answered again; yields whether they were right."""
    pool = operator._data.workers
    end = time.monotonic() + SECONDS_TO_RETURN
    while not all(worker.is_well for worker in pool.workers):
        if time.monotonic() > end:
            raise RuntimeError(f"{pool} compute after {SECONDS_TO_RETURN:g} s")
        yield is_right()
        time.sleep(MOMENT)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(
        "python tools/worker_kills.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--workers", type=int, default=8, metavar="N", help="processes (8)")
    add("--runs", type=int, default=200, metavar="N", help="products with a kill (200)")
    add("--seed", type=int, default=0, metavar="N", help="of vectors, victims and moments (0)")
    add("--timeout", type=float, default=10.0, metavar="SECONDS", help="of a worker's call (10)")
    options = parser.parse_args(arguments)
    with started(options.workers + 1) as processes:
        import tensorflow.compat.v1 as tf

        tf.logging.set_verbosity(tf.logging.ERROR)  # each kill is a warning
        found = measured(processes, options.runs, options.seed, options.timeout)
    row = {
        "TensorFlow": tf.VERSION,
        "workers": options.workers,
        "runs": options.runs,
        "killed in the middle": found.in_the_middle,
        "right, bit by bit": found.right,
        "products between, right": f"{found.later_right} of {found.later}",
        "seconds": f"{found.seconds:.0f}",
        "longest run, s": f"{found.longest:.1f}",
    }
    for cells in (row, ["---"] * len(row), row.values()):
        print("|", " | ".join(map(str, cells)), "|")
    return 0 if (found.right, found.later_right) == (options.runs, found.later) else 1


if __name__ == "__main__":
    sys.exit(main())
