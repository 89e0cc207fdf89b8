"""One cluster for all tests of this folder."""

import pytest

from tests.support import clusters


@pytest.fixture(scope="session")
def running_cluster():
    """A worker, on whose session everything runs, and two parameter servers."""
    with clusters.started(worker=1, ps=2) as cluster:
        yield cluster


@pytest.fixture
def cluster(running_cluster):
    """The same, without what other tests left in it."""
    running_cluster.reset()
    return running_cluster
