"""The core's tests once more: on the native kernels, and on kernels that are not there.

Each is a session of pytest in a process of its own, since `--implementation` is for all of one.
"""

import pytest

from tests.support.processes import environment, run_forked

CORE = tuple(f"tests/nn/test_{name}.py" for name in ("accuracy", "derivatives", "shapes"))


def run_core(implementation, marks, *files):
    """Runs these tests; fails with what pytest says if one of them does."""
    # This session may be one of several that share its work: the other is not among them.
    variables = {n: v for n, v in environment().items() if not n.startswith("PYTEST_XDIST")}
    options = ["-p", "no:xdist", "-p", "no:cacheprovider", "--quiet", "--tb=short"]
    options += ["--each-value-once", "--implementation", implementation, "-m", marks]
    done = run_forked("-m", "pytest", *options, *files, variables=variables)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    last_line = done.stdout.splitlines()[-1]
    assert int(last_line.split(" passed")[0].split()[-1]) > 20, last_line


@pytest.mark.parametrize(
    "marks",
    [
        "not exhaustive and not lengthy",
        pytest.param("lengthy and not exhaustive", marks=pytest.mark.lengthy),
    ],
)
def test_on_the_kernels(marks, library):
    run_core("kernel", marks, *CORE, "tests/nn/test_properties.py")


def test_kernels_that_are_not_there_have_no_silent_fallback():
    run_core("missing", "not exhaustive and not lengthy", *CORE)
