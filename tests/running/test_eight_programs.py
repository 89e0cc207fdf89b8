"""Eight programs for TF 1.x print under `tf1xent run` what they print without, and have Hessians.

On TF 2.x they run under ``--compat``. What they ought to print was printed by TF 1.15.5 alone; what
their Hessians ought to be is computed here by NumPy. Most run in forks of one process, to save the
import of TensorFlow.
"""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from tests.running.installed import HAS, ON_1
from tests.running.processes import PROGRAMS, plain, run

EIGHT = PROGRAMS / "eight"
FORKS = str(PROGRAMS / "forks.py")
SHAPES = {
    "script": "flags_script.py",
    "package": "-m trainer.task",
    "estimator": "estimator.py",
    "keras": "keras_model.py",
    "slim": "slim_model.py",
    "workers": "workers.py",
    "eager": "eager.py",
    "beside": "beside/classify.py",
}
# What each needs that not every TensorFlow has, and what it is told where that is missing.
NEEDS = {
    "slim": "contrib",
    "estimator": "estimator",
    "keras": "Keras 2",
}
REFUSALS = {
    "slim": "AttributeError: tf.contrib.slim: TensorFlow 2.x has no tf.contrib. "
    "Use `import tf_slim as slim` (pip install tf_slim).",
    "estimator": "AttributeError: tf.estimator.RunConfig: this TensorFlow has no tf.estimator, "
    "which ended with TensorFlow 2.15. "
    "Use TensorFlow up to 2.15, or tf.train.MonitoredTrainingSession.",
    "keras": "ImportError: tf.keras.backend: the Keras 3 of this TensorFlow cannot build graphs of "
    "TF 1.x. Install Keras 2 (pip install tf_keras, the version of this TensorFlow).",
}


CAN_RUN = {shape: HAS.get(NEEDS.get(shape), True) for shape in SHAPES}


def in_forks(start, folder, names, *options):
    """Runs programs in forks of one Python, which `start` starts; returns their results by name."""
    programs = [f"{name}={SHAPES[name.rstrip('+')]}" for name in names]
    ran = start(*options, FORKS, str(folder), *programs)
    assert (ran.code, ran.out) == (0, ""), ran.err

    def result(name):
        texts = [(folder / (name + suffix)).read_text() for suffix in (".out", ".err", ".code")]
        return SimpleNamespace(out=texts[0], err=texts[1], code=int(texts[2]))

    return {name: result(name) for name in names}


@pytest.fixture(scope="module")
def plainly(tmp_path_factory):
    """What plain Python makes of the programs, and of one that is asked for its Hessian."""
    if not ON_1:
        pytest.skip("plain Python runs programs for TF 1.x on TF 1.x only")
    return in_forks(plain, tmp_path_factory.mktemp("plain"), [*SHAPES, "script+"])


@pytest.fixture(scope="module")
def patched(tmp_path_factory):
    """What `tf1xent run` makes of the programs, each asked for its Hessian."""
    folder = tmp_path_factory.mktemp("patched")
    names = [shape + "+" for shape in SHAPES]
    results = in_forks(run, folder, names, "--compat")
    return SimpleNamespace(folder=folder, **{name[:-1]: results[name] for name in names})


def expected(shape):
    return (EIGHT / "expected" / f"{shape}.txt").read_text()


def without_notice(text):
    """Leaves out what TF 1.13 prints when `tf.contrib` is imported."""
    return re.sub(r"\nWARNING: The TensorFlow contrib module.*\n\n", "", text, flags=re.DOTALL)


def hessian_of_mean_loss(features, logits):
    """Returns the Hessian of the mean cross-entropy by the kernel, where logits = features kernel.

    It does not depend on the labels.
    """
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = exponentials / exponentials.sum(axis=1, keepdims=True)
    by_logits = np.einsum("nc,ce->nce", p, np.eye(p.shape[1])) - np.einsum("nc,ne->nce", p, p)
    return np.einsum("ni,nj,nce->icje", features, features, by_logits) / len(features)


@pytest.mark.parametrize("shape", SHAPES)
def test_plain_python_prints_what_is_expected_of_the_others(shape, plainly):
    ran = plainly[shape]
    assert ran.code == 0, ran.err
    assert without_notice(ran.out) == expected(shape)


def test_plain_python_has_no_hessian(plainly):
    ran = plainly["script+"]
    assert ran.code == 1 and ran.out == expected("script")
    assert "LookupError: Gradient explicitly disabled" in ran.err


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if CAN_RUN[shape]])
def test_the_output_is_that_of_plain_python_and_the_hessian_that_of_the_formula(shape, patched):
    ran = getattr(patched, shape)
    assert ran.code == 0, ran.err
    assert without_notice(ran.out) == expected(shape)
    values = np.load(str(patched.folder / f"{shape}+.npz"))
    features, logits = (values[name].astype(np.float64) for name in ("features", "logits"))
    wanted = hessian_of_mean_loss(features, logits)
    np.testing.assert_allclose(values["hessian"], wanted, rtol=1e-4, atol=1e-6)
    assert np.abs(wanted).max() > 0.05


def test_what_cannot_run_says_in_one_line_why_and_what_to_do(patched):
    refused = {shape: getattr(patched, shape) for shape in SHAPES if not CAN_RUN[shape]}
    assert set(refused) == {shape for shape, need in NEEDS.items() if not HAS[need]}
    for shape, ran in refused.items():
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.splitlines()[-1] == REFUSALS[shape]


@pytest.mark.lengthy
@pytest.mark.both_ends
@pytest.mark.parametrize(
    "shape, arguments, kept",
    [
        ("script", [str(EIGHT / SHAPES["script"]), "--steps=1", "rest"], r"arguments|step 0"),
        ("package", ["-m", "trainer.task", "--steps", "2"], r"1\.2945|1\.1514"),
    ],
)
def test_a_process_of_its_own(shape, arguments, kept, tmp_path):
    """As above, but with a Python that imports TensorFlow for the program only."""
    file = str(tmp_path / "hessian.npz")
    compat = [] if ON_1 else ["--compat"]
    ran = run(*compat, *arguments, variables={"HESSIAN_TO": file}, cwd=str(EIGHT))
    assert ran.code == 0, ran.err
    lines = [line for line in expected(shape).splitlines() if re.search(kept, line)]
    assert ran.out.replace("['rest']", "[]").splitlines()[: len(lines)] == lines
    assert ("rest" in ran.out) == ("rest" in arguments)
    values = np.load(file)
    wanted = hessian_of_mean_loss(values["features"], values["logits"])
    np.testing.assert_allclose(values["hessian"], wanted, rtol=1e-4, atol=1e-6)
