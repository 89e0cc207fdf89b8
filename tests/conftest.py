"""Settings of the whole test session: no display, a quiet TensorFlow, untimed random cases.

Nothing here touches numerics, and nothing imports tf1xent or TensorFlow before a test does.
"""

import gc
import inspect
import logging
import os
import signal
import types
import weakref

import pytest
from hypothesis import HealthCheck, settings

from tests.support.processes import WITHOUT_KERAS

# Before the first import of TensorFlow; the subprocesses of tests inherit both.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
# More threads than work spin, on a core that another process of tests needs: a fifth of the time.
# Where threads matter, a test asks for them.
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

# Each test makes and drops graphs of thousands of objects, beside the half million of the modules.
gc.set_threshold(20000, 20, 20)

read_signature = inspect.getfullargspec
signatures = weakref.WeakKeyDictionary()


def getfullargspec(function):
    """inspect's, which looks at a function once: TF 1.x asks it about the same one at every op."""
    if type(function) is not types.FunctionType:
        return read_signature(function)
    if function not in signatures:
        signatures[function] = read_signature(function)
    found = signatures[function]
    return found._replace(args=list(found.args), kwonlyargs=list(found.kwonlyargs))


# TensorFlow takes it when it is imported. A fifth of the time on TF 1.13.
inspect.getfullargspec = getfullargspec

# "... is deprecated and will be removed" of TF 1.x buries what a test says.
logging.getLogger("tensorflow").setLevel(logging.ERROR)

# A session on two shared cores is slow now and then; a test must not fail for that.
settings.register_profile(
    "tf1xent", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("tf1xent")

IMPLEMENTATIONS = ("graph", "kernel", "missing")


def pytest_addoption(parser):
    parser.addoption(
        "--implementation",
        choices=IMPLEMENTATIONS,
        default="graph",
        help="what computes losses where a test does not say: graph; kernel; or missing: kernels, "
        "which are not built, so that every test that computes a loss has to raise KernelsError",
    )
    parser.addoption(
        "--each-value-once",
        action="store_true",
        help="of the combinations of a test's parameters run as few as have every value",
    )
    parser.addoption(
        "--fewer-combinations",
        action="store_true",
        help="as --each-value-once, but for tests marked `combinations`, which run in all",
    )


def pytest_configure(config):
    asked_for = config.getoption("implementation")
    os.environ["TF1XENT_IMPLEMENTATION"] = "graph" if asked_for == "graph" else "kernel"
    if asked_for == "missing":
        os.environ["TF1XENT_KERNEL_CACHE"] = os.path.join(
            os.path.dirname(__file__), "no_such_cache"
        )
    if asked_for != "graph":  # for the core's tests, which do not need Keras
        os.environ.update(WITHOUT_KERAS)


def values_of(item):
    """The values of an item's parameters; those that one decorator gives together are one."""
    if not hasattr(item, "callspec"):
        return {item.nodeid}
    parameters, found = dict(item.callspec.params), set()
    for mark in item.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs["argnames"]
        names = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
        found.add(tuple((name, id(parameters.pop(name))) for name in names if name in parameters))
    return found.union((name, id(value)) for name, value in parameters.items())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    if not (config.getoption("each_value_once") or config.getoption("fewer_combinations")):
        return
    functions, kept = {}, set()
    for item in items:
        if item.get_closest_marker("combinations") and not config.getoption("each_value_once"):
            kept.add(item)
            continue
        function = item.nodeid.split("[")[0]
        functions.setdefault(function, []).append((item, values_of(item)))
    for found in functions.values():
        missing = set().union(*(values for _, values in found))
        while missing:
            item, values = max(found, key=lambda pair: len(pair[1] & missing))
            kept.add(item)
            missing -= values
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if item.config.getoption("implementation") != "missing" or call.when != "call":
        return
    report = outcome.get_result()
    refused = call.excinfo is not None and call.excinfo.type.__name__ == "KernelsError"
    if refused:
        report.outcome, report.longrepr = "passed", None
    elif report.passed and not item.get_closest_marker("computes_no_loss"):
        report.outcome = "failed"
        report.longrepr = (
            "passed, though kernels were asked for and there are none: a silent fallback"
        )


# Programs that tests run in processes of their own; collecting doctests would import them here.
collect_ignore_glob = ["routes/*.py", "*/*_program.py"]


@pytest.fixture
def default_handlers():
    """The handlers that a shell leaves to a command in the foreground, wherever the tests run."""
    defaults = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in defaults.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def library():
    """The native kernels' library; skips where it is not built."""
    from tf1xent import errors, kernels

    try:
        return kernels.library()
    except errors.KernelsError as error:
        pytest.skip(f"the kernels are not built here: {error}")
