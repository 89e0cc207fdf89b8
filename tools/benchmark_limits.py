"""The machine's limits for tools/benchmark.py: one copy, and one read, of the logits' bytes.

Both work on the logits themselves, where TensorFlow has them: memory is not everywhere as fast, of
one process or of another. They take as many threads as the others have, each thread a piece of its
own. The copy is `np.copyto`; the read is the faster one of `np.bitwise_or.reduce` and
`np.maximum.reduce`, of which each is bound by arithmetic on some NumPy. Both release the lock of
Python.
"""

import functools
import threading
import time

import measuring
import numpy as np
from benchmark_worker import Computation

SIDES = ("read", "copy")
CHOOSING_SAMPLES = 5


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


def words(array):
    """Returns an array's bytes as 64-bit words, without a copy; up to 7 last bytes are left out."""
    in_bytes = array.reshape(-1).view(np.uint8)
    return in_bytes[: in_bytes.size // 8 * 8].view(np.int64)


def ways_of_reading(source, threads):
    """Returns {name: sample} of the ways to read all of an array of 64-bit words."""
    whole = [(piece,) for piece in split(source, threads)]
    floats = [(piece.view(np.float32),) for (piece,) in whole]
    return {
        "np.bitwise_or": functools.partial(sample_in_threads, np.bitwise_or.reduce, whole),
        "np.maximum": functools.partial(sample_in_threads, np.maximum.reduce, floats),
    }


def fastest(ways):
    """Returns the name and the sample of the fastest of {name: sample}."""
    times = {}
    for name, sample in ways.items():
        number = measuring.calls_to_fill_a_sample(sample)
        times[name] = min(sample(number) for _ in range(CHOOSING_SAMPLES))
    name = min(times, key=lambda name: times[name])
    return name, ways[name]


def computations(logits, threads):
    """Returns {side: Computation} of the logits, which are an array in TensorFlow's memory."""
    source = words(logits)
    target = np.zeros_like(source)
    copy = functools.partial(
        sample_in_threads, np.copyto, list(zip(split(target, threads), split(source, threads)))
    )
    way, read = fastest(ways_of_reading(source, threads))
    return {
        "read": Computation(read, lambda: [], way),
        "copy": Computation(copy, lambda: [], "np.copyto"),
    }
