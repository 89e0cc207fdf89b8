"""What the benchmarks measure with: times in turns, medians, and the memory of a process."""

import ctypes
import math
import os
import resource
import sys
import time

import numpy as np

# One sample is as many calls as fill this: a timer's tick must not count, nor how threads wake up.
SAMPLE_SECONDS = 0.02
WARM_UP_CALLS = 3  # the first call optimises or compiles, the next ones fill the allocator
MEBIBYTE = 1024.0**2


def time_sample(call, number):
    """Returns the milliseconds of one call, the mean over `number` of them after as many not timed.

    What ran in between took caches, and threads fell asleep. Linux was seen to wake two of them up
    on one of two idle processors, of a virtual machine, and to leave them there for milliseconds:
    after a pause in 3 calls of 10, after five calls in 1 of 10.
    """
    for _ in range(number):
        call()
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number * 1e3


def calls_to_fill_a_sample(sample):
    """Returns how many calls `sample(number)` shall make, after some that warm up."""
    for _ in range(WARM_UP_CALLS):
        sample(1)
    return max(1, int(SAMPLE_SECONDS * 1e3 / sample(2)))


def summarize(samples):
    """Returns the median and the quartiles of samples."""
    lower, median, upper = (float(q) for q in np.percentile(samples, [25, 50, 75]))
    return {"median": median, "lower": lower, "upper": upper}


def format_times(times):
    """Returns what `summarize` returned as text."""
    return "{median:.3g} ({lower:.3g} to {upper:.3g})".format(**times)


def geometric_mean(values):
    """Returns the geometric mean of positive numbers."""
    return math.exp(sum(math.log(value) for value in values) / len(values))


def markdown_table(lines):
    """Returns a table of lists of texts, the first of them its header."""
    lines = [lines[0], ["---"] * len(lines[0])] + lines[1:]
    return "\n".join("| {} |".format(" | ".join(line)) for line in lines)


# --- Memory ---------------------------------------------------------------------------------------


def resident_bytes():
    """Returns how much memory the process holds now; Linux only."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def forget_peak():
    """Makes the peak of the process what it holds now; Linux only."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak_bytes():
    """Returns the most memory that the process held since `forget_peak`; Linux only.

    The peak that `getrusage` gives would not do: it cannot be taken back, and a process starts
    with that of the one that started it.
    """
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def give_back_freed_memory():
    """Makes the C library hand freed memory back, which would count as held; does so on Linux."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none, and keeps little
        if trim is not None:
            trim(0)


def peak_above_held(call, number):
    """Returns how far `number` calls raise the peak above what the process held before them."""
    give_back_freed_memory()
    held = resident_bytes()
    forget_peak()
    for _ in range(number):
        call()
    return peak_bytes() - held


def available_processors():
    """Returns the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
