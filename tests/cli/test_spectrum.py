"""`tf1xent spectrum`: what it prints, writes and refuses, from files alone, and how it resumes."""

import contextlib
import io
import json
import os
import re
import shutil
import signal

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.corpus.reading import FILES, entries
from tests.curvature.models.test_models import CLASSIFIER, META, oracle
from tests.support.graph_files import contents
from tf1xent import cli
from tf1xent.cli import spectrum
from tf1xent.curvature import HessianOperator
from tf1xent.curvature.models.feed_files import feed_batches, read_arrays
from tf1xent.curvature.models.loading import load_model
from tf1xent.curvature.operators.product_log import ProductLog

SAVED_MODEL = FILES / "tf115" / "estimator" / "saved_model"
ENTRIES = {entry.id: entry for entry in entries()}


def save_feeds(path, entry):
    """Writes what an entry of the corpus is fed as an .npz file, by the placeholders' names."""
    arrays = {name.split(":")[0]: array for name, array in entry.feed_dict().items()}
    np.savez(str(path), **arrays)
    return str(path)


@pytest.fixture(scope="module")
def feeds(tmp_path_factory):
    return save_feeds(tmp_path_factory.mktemp("feeds") / "iris.npz", CLASSIFIER)


def run(capsys, *arguments):
    """Runs the command; returns its exit code, output and errors."""
    code = cli.main(["spectrum", *map(str, arguments)])
    output, errors = capsys.readouterr()
    return code, output, errors


def results(folder):
    return json.loads((folder / "spectrum.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory, feeds):
    """One run with everything: the folder, and what it printed."""
    folder = tmp_path_factory.mktemp("spectrum") / "out"
    printed = io.StringIO()
    arguments = ["--meta", META, "--loss", "loss", "--feeds", feeds, "--batch-size", 4]
    with contextlib.redirect_stdout(printed):
        assert cli.main(["spectrum", *map(str, arguments), "-o", str(folder)]) == 0
    return folder, printed.getvalue()


# What it finds -----------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_dense_matrix(measured):
    folder, _ = measured
    found, matrix = results(folder), oracle(CLASSIFIER)
    values = np.linalg.eigvalsh(matrix)
    want = values[np.argsort(-np.abs(values))]
    # The first ones to the 1e-6 that files of other versions are held to; the last to their tol.
    np.testing.assert_allclose(found["eigenvalues"]["values"][:5], want[:5], rtol=1e-6)
    np.testing.assert_allclose(found["eigenvalues"]["values"], want[:10], rtol=1e-3)
    assert max(found["eigenvalues"]["residuals"]) < 1e-2
    trace = found["trace"]
    assert abs(trace["value"] - np.trace(matrix)) < 5 * trace["standard_error"]
    first = matrix[:40, :40]
    layer = found["layers"]["hidden"]
    assert (layer["size"], layer["variables"]) == (40, ["hidden/kernel", "hidden/bias"])
    np.testing.assert_allclose(layer["eigenvalue"], np.linalg.eigvalsh(first)[-1], rtol=1e-3)
    assert abs(layer["trace"]["value"] - np.trace(first)) < 5 * layer["trace"]["standard_error"]
    moments = [np.mean(values), np.mean(values**2)]
    for got, error, moment in zip(
        found["density"]["moments"], found["density"]["moment_errors"], moments
    ):
        assert abs(got - moment) < 5 * error


def test_it_says_what_it_measured(measured):
    folder, printed = measured
    found = results(folder)
    assert found["graph"] == str(META)
    assert found["step"] == 5
    assert (found["examples"], found["batches"], found["parameters"]) == (6, 2, 67)
    assert found["variables"]["logits/kernel"] == [8, 3]
    lines = printed.splitlines()
    assert lines[0] == f"{META}, checkpoint {str(META)[:-5]}"
    assert lines[1] == (
        "Hessian of loss:0 = 0.130711 over 6 examples in 2 batches, in 67 parameters of 4 variables"
    )
    assert re.search(r"^1 +0\.772132 +\d", printed, re.MULTILINE)
    assert re.search(r"^trace +2\.\d+ \+- 0\.\d+, 95 % from 2\.\d+ to 2\.\d+ \(", printed, re.M)
    assert re.search(r"^hidden +40 +0\.36\d+ +1\.\d+", printed, re.MULTILINE)


def test_it_writes_numbers_a_picture_and_events_and_nothing_else(measured):
    folder, _ = measured
    names = sorted(os.listdir(str(folder)))
    assert names[1:] == ["spectrum.json", "spectrum.png"]
    assert names[0] == results(folder)["events"]
    assert (folder / "spectrum.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    (event,) = [*tf.train.summary_iterator(str(folder / names[0]))][1:]
    scalars = {value.tag: value.simple_value for value in event.summary.value}
    assert event.step == 5
    np.testing.assert_allclose(scalars["curvature/eigenvalue_1"], 0.772132, rtol=1e-6)


def test_the_gauss_newton_matrix_of_a_saved_model(tmp_path, capsys):
    feeds = save_feeds(tmp_path / "feeds.npz", ENTRIES["tf115-estimator_train"])
    out = tmp_path / "out"
    code, output, errors = run(
        *(capsys, "--saved-model", SAVED_MODEL, "--loss", "loss", "--feeds", feeds, "-o", out),
        *("--matrix", "ggn", "--outputs", "logits/BiasAdd", "--variables", "logits", "--json"),
        *("--top", 27, "--trace-products", 0, "--density-steps", 0),
    )
    assert (code, errors) == (0, "")
    found = json.loads(output)
    del found["layers"]
    written = results(out)
    assert {name: written[name] for name in found} == found
    assert (found["trace"], found["density"], written["layers"]) == (None, None, {})
    # In the last layer the logits are linear, so that the matrix is this block of the Hessian.
    block = oracle(ENTRIES["tf115-estimator_train"])[40:, 40:]
    want = np.sort(np.linalg.eigvalsh(block))[::-1]
    np.testing.assert_allclose(np.sort(found["eigenvalues"]["values"])[::-1], want, atol=1e-12)
    assert (out / "spectrum.png").is_file()


# What it refuses ---------------------------------------------------------------------------------


def check_refused(capsys, folder, *arguments, message):
    """Exit code 2, one line on stderr, and no file is changed or left."""
    before = contents(folder)
    code, output, errors = run(capsys, *arguments)
    assert (code, output) == (2, ""), errors
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("tf1xent spectrum: ") and errors.count("tf1xent spectrum") == 1
    assert re.search(message, errors), errors
    assert contents(folder) == before


@pytest.fixture
def refused(capsys, tmp_path, feeds):
    """Checks a refusal of the classifier with other options."""

    def check(message, **changed):
        options = {"meta": META, "loss": "loss", "feeds": feeds, "output": tmp_path / "out"}
        options.update(changed)
        arguments = []
        for name, value in options.items():
            if value is not None:
                values = value if isinstance(value, list) else [value]
                arguments += ["--" + name.replace("_", "-"), *values]
        check_refused(capsys, tmp_path, *arguments, message=message)

    return check


def test_candidates_are_listed_where_the_loss_is_missing_or_wrong(refused):
    likely = re.escape(
        "Candidates, likeliest first: loss:0 [] (the graph's gradients start here, its name)."
    )
    refused(f"the loss must be named. {likely}", loss=None)
    refused(f"the graph has no `lost`. {likely}", loss="lost")
    refused("must be a scalar, got `xent/xent:0` .* computed from it: `loss:0`", loss="xent/xent")


def test_what_is_not_there_or_does_not_fit_is_one_line(refused, tmp_path):
    other = ENTRIES["tf115-tagger"].checkpoint
    refused("must be a checkpoint of this graph, but it has no hidden/bias", checkpoint=other)
    refused("none.meta does not exist", meta=tmp_path / "none.meta")
    refused("none.npz: No such file or directory", feeds=tmp_path / "none.npz")
    refused(r"placeholders that are not fed: features \[\?, 4\] float64, labels", feeds=None)
    refused("has no tensor `nowhere`", variables=["nowhere"])
    refused("has no tensor `nowhere`", matrix="ggn", outputs=["nowhere"])
    refused("no path of gradients leads from", variables=["hidden/kernel/Momentum"])
    refused("the folder to write in, does not exist", output=tmp_path / "none" / "out")
    np.savez(str(tmp_path / "wide.npz"), features=np.ones([3, 5]), labels=[0, 1, 2])
    refused(r"must be fed with the shape \[\?, 4\], got \[3, 5\]", feeds=tmp_path / "wide.npz")
    np.savez(str(tmp_path / "class.npz"), features=np.ones([3, 4]), labels=[0, 1, 9])
    refused("label value of 9", feeds=tmp_path / "class.npz")
    broken = np.ones([3, 4])
    broken[2, 1] = np.nan
    np.savez(str(tmp_path / "nan.npz"), features=broken, labels=[0, 1, 2])
    refused("batch 2", feeds=tmp_path / "nan.npz", batch_size=1)
    (tmp_path / "file").write_text("as it was")
    refused("must be a folder, got a file", output=tmp_path / "file")


def test_a_v1_loop_is_refused_with_its_remedy(refused, tmp_path):
    entry = ENTRIES["tf115-tagger"]
    feeds = save_feeds(tmp_path / "feeds.npz", entry)
    refused("no second derivative.*v1 while loop", meta=entry.path, feeds=feeds, loss=entry.loss)


def test_options_that_do_not_go_together_are_refused_first(refused):
    refused("--matrix ggn and --outputs need each other", matrix="ggn")
    refused("--matrix ggn and --outputs need each other", outputs=["logits/BiasAdd"])
    refused("--batch-size needs --feeds", feeds=None, batch_size=4)
    refused("--tags needs --saved-model", tags=["train"])
    model = {"meta": None, "saved_model": SAVED_MODEL}
    refused("--checkpoint needs --meta", checkpoint=META, **model)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--loss", "loss", "-o", "out"],
        ["--meta", "m", "--saved-model", "s", "-o", "out"],
        ["--meta", "m"],
        ["--meta", "m", "-o", "out", "--top", "0"],
        ["--meta", "m", "-o", "out", "--seed", "-1"],
    ],
    ids=str,
)
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as raised:
        cli.main(["spectrum", *arguments])
    assert raised.value.code == 2
    assert "usage: tf1xent spectrum" in capsys.readouterr().err


def test_what_is_not_installed_is_named_with_the_remedy(refused, monkeypatch):
    monkeypatch.setattr(spectrum, "REQUIREMENTS", ("scipy", "no_such_module"))
    refused(r"needs no_such_module. Run: pip install tf1xent\[curvature\]$")


@pytest.mark.lengthy
def test_a_loss_that_draws_random_numbers_is_refused(refused, tmp_path):
    prefix = str(tmp_path / "dropout")
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.get_variable("x", [20])
        rate = tf.placeholder_with_default(0.5, [], name="rate")
        tf.reduce_sum(tf.nn.dropout(x, rate=rate) ** 2, name="loss")
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, prefix)
    meta = prefix + ".meta"
    refused("must be the same each time, .* it draws random numbers", meta=meta, feeds=None)
    np.savez(prefix + ".npz", rate=0.0)
    out = str(tmp_path / "out")
    options = ["--meta", meta, "--loss", "loss", "--feeds", prefix + ".npz", "-o", out]
    assert cli.main(["spectrum", *options, "--trace-products", "5"]) == 0


# What is there already, and what was killed ------------------------------------------------------


def test_results_are_overwritten_by_force_only(measured, capsys, tmp_path, feeds):
    out = tmp_path / "out"
    shutil.copytree(str(measured[0]), str(out))
    (out / "notes.txt").write_text("mine")
    command = ["--meta", META, "--loss", "loss", "--feeds", feeds, "-o", out]
    check_refused(capsys, tmp_path, *command, message="spectrum.json exists already. `--force`")
    events = results(out)["events"]
    few = ["--top", 2, "--trace-products", 0, "--density-steps", 0, "--layers", 0, "--force"]
    assert run(capsys, *command, *few)[0] == 0
    names = sorted(os.listdir(str(out)))
    assert events not in names
    assert names == sorted([results(out)["events"], "notes.txt", "spectrum.json", "spectrum.png"])
    assert len(results(out)["eigenvalues"]["values"]) == 2


def test_a_run_that_was_stopped_goes_on_where_it_was(
    measured, tmp_path, capsys, feeds, monkeypatch, default_handlers
):
    out = tmp_path / "out"
    command = ["--meta", META, "--loss", "loss", "--feeds", feeds, "--batch-size", 4, "-o", out]
    appended = []
    real = ProductLog.append

    def append(self, vector, product):
        real(self, vector, product)
        appended.append((os.path.basename(self.path), np.asarray(vector).tobytes()))
        if len(appended) == 70:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ProductLog, "append", append)
    code, output, errors = run(capsys, *command)
    assert (code, output) == (128 + signal.SIGTERM, "")
    assert errors == "tf1xent: stopped by SIGTERM.\n"
    assert os.listdir(str(out)) == ["hessian.products"]
    assert run(capsys, *command)[0] == 0
    # No product was computed twice, and the numbers are, bit by bit, those of one run.
    assert len(set(appended)) == len(appended) > 70
    for name in ("eigenvalues", "trace", "density", "layers", "value"):
        assert results(out)[name] == results(measured[0])[name]
    assert not [name for name in os.listdir(str(out)) if name.endswith(".products")]


def test_products_of_other_data_are_refused_and_kept(tmp_path, capsys, feeds, refused):
    out = tmp_path / "out"
    out.mkdir()
    with load_model(META) as model:
        loss = model.graph.get_tensor_by_name("loss:0")
        data = feed_batches(model.graph, [loss], read_arrays(feeds))
        log = str(out / "hessian.products")
        operator = HessianOperator(
            model.session, loss, model.variables, data.feeds, batch_weights=data.sizes, log=log
        )
        operator.matvec(np.ones(67))
    refused("hessian.products, which differs in: .*the data", batch_size=3)
