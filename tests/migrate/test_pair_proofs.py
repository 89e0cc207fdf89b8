"""The sources of the pairs run, and compute the same loss, gradients and Hessian products."""

import re

import pytest
import tensorflow

from tests.migrate.pair_files import read_pairs
from tf1xent import verification

PROVED = [pair for pair in read_pairs() if pair.after != pair.before and pair.proof != "text"]


def marks(number, pair):
    """Contrib's on 1.x, every sixteenth of the others everywhere, all on the newest: 0.3 s each."""
    everywhere = "contrib" in pair.before or number % 16 == 0
    return [] if everywhere else [pytest.mark.exhaustive]


PARAMETERS = [pytest.param(p, id=p.name, marks=marks(n, p)) for n, p in enumerate(PROVED)]
HAS_CONTRIB = hasattr(tensorflow, "contrib")
# A module of TensorFlow's where `import tensorflow` is to mean compat.v1.
_V1 = (
    (r"^(\s*)import tensorflow$", r"\1import tensorflow.compat.v1 as tensorflow"),
    (r"^(\s*)import tensorflow as", r"\1import tensorflow.compat.v1 as"),
    (r"^(\s*)from tensorflow import", r"\1from tensorflow.compat.v1 import"),
    (r"^(\s*)from tensorflow\.(nn|losses) import", r"\1from tensorflow.compat.v1.\2 import"),
)
# What a source switches off would stay off for the tests that follow.
_SWITCH = r"^(\s*)tf\.disable_v2_behavior\(\)$"


def built(source, api):
    """The function `loss` of a source; on TF 2.x its `tensorflow` is compat.v1."""
    source = re.sub(_SWITCH, r"\1pass", source, flags=re.MULTILINE)
    if api == "v1" and not HAS_CONTRIB:
        for old, new in _V1:
            source = re.sub(old, new, source, flags=re.MULTILINE)
    namespace = {"__name__": "pair"}
    with tensorflow.Graph().as_default():
        exec(compile(source, "<pair>", "exec"), namespace)
    return namespace["loss"]


def setting_of(pair):
    """The batches that a pair's header asks for."""
    time = pair.option("time")
    return dict(
        labels=pair.option("labels", "sparse"),
        time_steps=int(time) if time else None,
        num_classes=int(pair.option("classes", "5")),
        batch_size=int(pair.option("batch", "6")),
        inputs=pair.options.get("input", []),
        dtypes=["float32"],
    )


def skip_unless_it_can_run(pair):
    api = pair.option("api", "v1")
    if not HAS_CONTRIB and re.search(r"\bcontrib\b", pair.before):
        pytest.skip("this TensorFlow has no contrib")
    if HAS_CONTRIB and api == "v2":
        pytest.skip("this TensorFlow's own names are those of 1.x")


@pytest.mark.parametrize("pair", PARAMETERS)
def test_proof(pair):
    skip_unless_it_can_run(pair)
    api = pair.option("api", "v1")
    after = built(pair.after, api)
    if pair.proof == "fails":
        report = verification.compare_functions(after, after, **setting_of(pair))
        assert report.formula is not None and not report.before_is_wrong, report.to_text()
    try:
        report = verification.compare_functions(built(pair.before, api), after, **setting_of(pair))
    except (AttributeError, ImportError, TypeError, ValueError):
        assert pair.proof == "fails"
        return
    assert report.equal == (pair.proof == "equal"), report.to_text()
