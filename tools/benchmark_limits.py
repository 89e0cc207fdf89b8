"""The machine's limits for tools/benchmark.py: one copy, and one read, of the logits' bytes.

Both work on memory that is there already, in as many threads as the others have, each thread on a
piece of its own. The copy is `np.copyto`. The read is the faster one of `np.bitwise_or.reduce`
over 64-bit words and, where there is a POSIX C library, its `memchr` looking for a byte that is not
there: `np.sum` and `np.max` are bound by arithmetic on some NumPy. All of them release the lock of
Python.
"""

import contextlib
import ctypes
import functools
import os
import threading
import time

import measuring
import numpy as np
from benchmark_worker import Computation

BYTES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
CHOOSING_SAMPLES = 5


def describe(settings):
    return {"versions": {"NumPy": np.__version__}, "missing": {}}


def sample_in_threads(operation, pieces, number):
    """Returns the milliseconds in which every thread does its piece once, of `number` times.

    From the first thread's start to the last one's end: what it takes to wake them up is no limit
    of the machine.
    """
    barrier = threading.Barrier(len(pieces))
    starts, ends = [], []

    def work(piece):
        operation(*piece)
        barrier.wait()
        starts.append(time.perf_counter())
        for _ in range(number):
            operation(*piece)
        ends.append(time.perf_counter())

    threads = [threading.Thread(target=work, args=(piece,)) for piece in pieces[1:]]
    for thread in threads:
        thread.start()
    work(pieces[0])
    for thread in threads:
        thread.join()
    return (max(ends) - min(starts)) / number * 1e3


def split(array, parts):
    """Returns contiguous pieces of an array."""
    return np.array_split(array, parts)


def ways_of_reading(source, threads):
    """Returns {name: sample} of the ways to read all of an array of 64-bit words."""
    pieces = split(source, threads)
    ways = {
        "np.bitwise_or": functools.partial(
            sample_in_threads, np.bitwise_or.reduce, [(piece,) for piece in pieces]
        )
    }
    if os.name == "posix":
        memchr = ctypes.CDLL(None).memchr
        memchr.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
        memchr.restype = ctypes.c_void_p
        absent = 0  # every byte of the source is 1
        ways["memchr"] = functools.partial(
            sample_in_threads, memchr, [(p.ctypes.data, absent, p.nbytes) for p in pieces]
        )
    return ways


def fastest(ways):
    """Returns the name and the sample of the fastest of {name: sample}."""
    times = {}
    for name, sample in ways.items():
        number = measuring.calls_to_fill_a_sample(sample)
        times[name] = min(sample(number) for _ in range(CHOOSING_SAMPLES))
    name = min(times, key=lambda name: times[name])
    return name, ways[name]


@contextlib.contextmanager
def computations(inputs, problem):
    """Yields {(order, side): Computation}; the limits are the same for every order."""
    num_bytes = inputs.logits.size * BYTES[problem.dtype]
    source = np.full(-(-num_bytes // 8), 0x0101010101010101, np.int64)
    target = np.zeros_like(source)
    threads = problem.threads
    copy = functools.partial(
        sample_in_threads, np.copyto, list(zip(split(target, threads), split(source, threads)))
    )
    way, read = fastest(ways_of_reading(source, threads))
    sides = {
        "read": Computation(read, lambda: [], way),
        "copy": Computation(copy, lambda: [], "np.copyto"),
    }
    yield {(order, side): sides[side] for order in problem.orders for side in problem.sides}
