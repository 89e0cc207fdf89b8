"""How times and memory are measured in a process."""

import concurrent.futures
import ctypes
import multiprocessing
import resource
import sys
import time
from typing import Any, Callable

# A sample is as many calls as fill this: the timer's tick must not count, nor waking threads.
SAMPLE_SECONDS = 0.02
WARM_UP_CALLS = 3  # the first call optimises or compiles, the next ones fill the allocator


def time_sample(
    call: Callable[[], Any], number: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Returns the seconds of one call, the mean of `number` calls after as many not timed.

    Calls of other sides took caches, and threads fell asleep. Linux may wake two threads on one of
    two idle processors: after a pause in 3 calls of 10, after five calls in 1 of 10.
    """
    for _ in range(number):
        call()
    start = clock()
    for _ in range(number):
        call()
    return (clock() - start) / number


def calls_to_fill_a_sample(sample: Callable[[int], float]) -> int:
    """Returns how many calls `sample(number)` shall make, after some that warm up."""
    for _ in range(WARM_UP_CALLS):
        sample(1)
    return max(1, int(SAMPLE_SECONDS / sample(2)))


class Memory:
    """The peak of this process from now on, above what it holds now; Linux only.

    `getrusage` would not do: its peak cannot be reset, and begins with that of the parent process.
    """

    def __init__(self) -> None:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none, and keeps little
        if sys.platform == "linux" and trim is not None:
            trim(0)  # the C library hands back freed memory, which would count as held
        with open("/proc/self/statm") as file:
            self.held = int(file.read().split()[1]) * resource.getpagesize()
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")

    def peak(self) -> int:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

    def above_held(self) -> int:
        return self.peak() - self.held


def new_process() -> concurrent.futures.ProcessPoolExecutor:
    """Returns an executor of one new process: peaks are a process's, and threads."""
    return concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
