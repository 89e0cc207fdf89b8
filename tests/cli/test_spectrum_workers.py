"""`tf1xent spectrum --workers`: the numbers of an undisturbed run, whatever becomes of them."""

import json
import os
import re
import time

import numpy as np
import pytest

from tests.cli.test_spectrum import save_feeds
from tests.curvature.models.test_models import CLASSIFIER, META
from tests.support import clusters
from tf1xent import cli
from tf1xent.curvature.operators.product_log import ProductLog

FEW = ["--top", 3, "--trace-products", 6, "--density-steps", 8, "--layers", 0]
NUMBERS = ("eigenvalues", "trace", "density", "value")
TIMEOUT = 10
# Beyond the limit of a call; a machine that does other things too.
SECONDS_TO_GIVE_UP = 90


@pytest.fixture(scope="module")
def cluster():
    with clusters.started_apart(2) as started:
        yield started


@pytest.fixture(autouse=True)
def well(cluster):
    """Each test begins with workers that are there."""
    for task in cluster.tasks:
        if not task.alive:
            task.restart()


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    feeds = save_feeds(tmp_path_factory.mktemp("feeds") / "iris.npz", CLASSIFIER)
    return ["--meta", META, "--loss", "loss", "--feeds", feeds, "--batch-size", 2, *FEW]


def run(options, cluster, out, *more):
    """Runs the command on the workers; returns its exit code."""
    workers = ["--workers", ",".join(task.address for task in cluster.tasks)]
    arguments = [*options, *workers, "--worker-timeout", TIMEOUT, "-o", out, *more]
    return cli.main(["spectrum", *map(str, arguments)])


def numbers(out):
    found = json.loads((out / "spectrum.json").read_text(encoding="utf-8"))
    return {name: found[name] for name in NUMBERS}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, options, cluster):
    """What a run finds on two workers that are well."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert run(options, cluster, out) == 0
    return numbers(out)


@pytest.fixture
def at_product(monkeypatch):
    """Has something done when so many products have been computed; returns all their vectors."""

    def arrange(number, act):
        vectors, real = [], ProductLog.append

        def append(self, vector, product):
            real(self, vector, product)
            vectors.append(np.asarray(vector).tobytes())
            if len(vectors) == number:
                act()

        monkeypatch.setattr(ProductLog, "append", append)
        return vectors

    return arrange


def test_the_numbers_are_those_without_workers(undisturbed, options, tmp_path):
    out = tmp_path / "out"
    assert cli.main(["spectrum", *map(str, options), "-o", str(out)]) == 0
    alone = numbers(out)
    np.testing.assert_allclose(
        undisturbed["eigenvalues"]["values"], alone["eigenvalues"]["values"], rtol=1e-9
    )
    np.testing.assert_allclose(undisturbed["value"], alone["value"], rtol=1e-12)
    np.testing.assert_allclose(undisturbed["trace"]["value"], alone["trace"]["value"], rtol=1e-9)


@pytest.mark.lengthy
def test_a_worker_that_is_killed_changes_no_bit(
    undisturbed, options, cluster, tmp_path, capsys, at_product
):
    vectors = at_product(5, cluster.tasks[0].kill)
    assert run(options, cluster, tmp_path / "out") == 0
    assert capsys.readouterr().err == ""
    assert numbers(tmp_path / "out") == undisturbed
    assert len(set(vectors)) == len(vectors) > 5
    assert os.listdir(str(tmp_path / "out")).count("spectrum.json") == 1


@pytest.mark.lengthy
def test_without_workers_it_ends_in_a_line_and_a_later_run_goes_on(
    undisturbed, options, cluster, tmp_path, capsys, at_product
):
    out = tmp_path / "out"
    vectors = at_product(7, lambda: [task.kill() for task in cluster.tasks])
    begin = time.monotonic()
    assert run(options, cluster, out) == 2
    assert time.monotonic() - begin < TIMEOUT + SECONDS_TO_GIVE_UP
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert re.match(r"tf1xent spectrum: .*none of 2 is left", errors), errors
    assert os.listdir(str(out)) == ["hessian.products"]
    for task in cluster.tasks:
        task.restart()
    assert run(options, cluster, out) == 0
    assert numbers(out) == undisturbed
    assert len(set(vectors)) == len(vectors) > 7
    assert not [name for name in os.listdir(str(out)) if name.endswith(".products")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "here"], "must hold 'host:port' or 'grpc://host:port', got 'here'"),
        (["--workers", "here:1,"], "got ''"),
        (["--workers", "here:1,grpc://here:1"], "must name each worker once"),
        (["--worker-timeout", "5"], "--worker-timeout needs --workers"),
    ],
)
def test_what_is_no_list_of_workers_is_one_line(arguments, message, options, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["spectrum", *map(str, options), "-o", str(out), *arguments]) == 2
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert errors.startswith("tf1xent spectrum: ") and message in errors, errors
    assert not out.exists()
