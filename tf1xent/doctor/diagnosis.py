"""Why TensorFlow's import fails: a table of the known causes, each with its remedy."""

import os
import re
import signal
from typing import Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

# The oldest TensorFlow, and the newest that the tests run on.
OLDEST = (1, 13)
NEWEST = (2, 21)
NEWEST_PYTHON = (3, 13)


class Problem(NamedTuple):
    """Something that is wrong here.

    Attributes:
      what: in one line.
      remedy: in one line; with a command, if there is one.
      detail: the line of the error itself, or empty.
    """

    what: str
    remedy: str
    detail: str = ""


class Cause(NamedTuple):
    """A known cause of a failing import.

    Attributes:
      pattern: what its error or its last lines on stderr hold.
      what: what is the matter; `{numpy}` is NumPy's version, `{0}` the pattern's first group.
      remedy: the same for what to do.
    """

    pattern: str
    what: str
    remedy: str


# The first that fits is told.
CAUSES = (
    Cause(
        r"Descriptors cannot (?:not )?be created directly",
        "protobuf {protobuf} is too new for TensorFlow {tensorflow}.",
        'pip install "protobuf<3.21"',
    ),
    Cause(
        r"cannot import name '(?:builder|runtime_version)' from 'google\.protobuf"
        r"|Detected incompatible Protobuf Gencode/Runtime",
        "protobuf {protobuf} is too old for TensorFlow {tensorflow}.",
        "pip install --upgrade protobuf",
    ),
    Cause(
        r"compiled using NumPy 1\.x cannot be run|_ARRAY_API not found"
        r"|numpy\.core\.(?:umath|multiarray) failed to import|dtype size changed",
        "NumPy {numpy} is too new for TensorFlow {tensorflow}, or for a package that it imports.",
        'pip install "numpy<2"',
    ),
    Cause(
        r"module 'numpy' has no attribute '(\w+)'|`np\.(\w+)` was removed",
        "NumPy {numpy} is too new for TensorFlow {tensorflow}: it has no `np.{0}` any more.",
        'pip install "{numpy_below}"',
    ),
    Cause(
        r"Keras cannot be imported|No module named '(?:tf_)?keras'",
        "tf.keras of TensorFlow {tensorflow} needs the package {keras_package}.",
        "pip install {keras_package}{or_unset}",
    ),
    Cause(
        r"from 'keras|No module named 'keras\.|module 'keras",
        "Keras {keras} does not fit TensorFlow {tensorflow}.",
        'pip install "{keras_fits}"',
    ),
    Cause(
        r"No module named '(?:distutils|imp|pkg_resources)'",
        "TensorFlow {tensorflow} needs a module that this Python has no more.",
        'pip install "setuptools<81", or use an older Python',
    ),
    Cause(
        r"(lib(?:cud|cublas|cufft|curand|cusolver|cusparse|nvinfer)[\w.+-]*):? cannot open shared",
        "This TensorFlow is built for GPUs, and {0} of CUDA is not found.",
        "install that version of CUDA and name its folder in LD_LIBRARY_PATH, or install a "
        "TensorFlow for CPUs",
    ),
    Cause(
        r"version [`'](GLIBC(?:XX)?_[\d.]+)' not found",
        "The C library of this system is older than this TensorFlow needs ({0}).",
        "install an older TensorFlow, or use a newer system",
    ),
    Cause(
        r"undefined symbol|Symbol not found|DLL load failed",
        "TensorFlow's own libraries do not fit together: an update was not complete, or two "
        "TensorFlows are installed over each other.",
        "{reinstall}",
    ),
    Cause(
        r"No module named 'tensorflow\.(?:python|compat|core)|No module named 'tensorflow_core",
        "What is imported as `tensorflow` is not TensorFlow, or only a part of it: {place}",
        "rename that file or folder if it is yours; else {reinstall}",
    ),
    Cause(
        r"No module named '(google|absl)\b",
        "TensorFlow needs packages of Google's, which are not installed.",
        "pip install protobuf absl-py",
    ),
    Cause(
        r"No module named '(\w+)",
        "TensorFlow needs the package {0}, which is not installed.",
        "pip install {0}",
    ),
    Cause(
        r"cannot allocate memory in static TLS block",
        "A library was loaded before TensorFlow's and took the space that it needs.",
        "import tensorflow before all other packages",
    ),
)
# h5py 3 returns str where Keras of these decodes bytes.
_LAST_BEFORE_H5PY_3 = (2, 4)
_ERROR = re.compile(r"\s*(?:[\w.]*(?:Error|Exception|Warning|Interrupt)\b.*\S)")


def clash(tensorflow: str, h5py: Optional[str]) -> Optional[str]:
    """Returns what the import does not tell and fails later, or None."""
    release, of_h5py = release_of(tensorflow), release_of(h5py or "")
    if release and of_h5py >= (3, 0) and release <= _LAST_BEFORE_H5PY_3:
        return (
            f"h5py {h5py} is too new for Keras of TensorFlow {tensorflow}: files of weights may "
            'not load (str has no attribute decode). Run: pip install "h5py<3"'
        )
    return None


def failed_import(text: str, facts: Mapping[str, str]) -> Problem:
    """Returns what is behind a failing import.

    Args:
      text: the traceback, and what else was written to stderr.
      facts: versions by the names that `CAUSES` use; see `facts_of`.
    """
    line = last_error(text)
    # The error itself decides; only if it says nothing, what was printed around it.
    for said in (line, text):
        for cause in CAUSES:
            match = re.search(cause.pattern, said)
            if match is not None:
                group = next(filter(None, match.groups()), "")
                what, remedy = (t.format(group, **facts) for t in (cause.what, cause.remedy))
                return Problem(what, remedy, line)
    return Problem("TensorFlow's import fails.", facts["reinstall"], line)


def last_error(text: str) -> str:
    """Returns the line of a traceback, or of several, that names the error; or the last line.

    >>> last_error("Traceback ...\\n  File x\\nImportError: libfoo.so: cannot open\\n\\nSee above.")
    'ImportError: libfoo.so: cannot open'
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    errors = [line for line in lines if _ERROR.fullmatch(line)]
    return (errors or lines)[-1]


def facts_of(installed: Mapping[str, str], tensorflow: str, place: Optional[str]) -> Dict[str, str]:
    """Returns what the texts of `CAUSES` may name: versions, and commands that fit them."""
    facts = {name: installed.get(name, "?") for name in ("numpy", "protobuf", "keras")}
    legacy = os.environ.get("TF_USE_LEGACY_KERAS") in ("1", "True", "true")
    release = release_of(tensorflow)
    pinned = f"=={tensorflow}" if release else ""
    distribution = next((name for name in installed if "tensorflow" in name), "tensorflow")
    facts.update(
        tensorflow=tensorflow,
        place=str(place),
        reinstall=f'pip install --force-reinstall "{distribution}{pinned}" in a new environment',
        numpy_below="numpy<1.24" if release and release < (2, 12) else "numpy<2",
        keras_package="tf_keras" if legacy else "keras",
        or_unset=", or unset TF_USE_LEGACY_KERAS" if legacy else "",
        keras_fits=_keras_that_fits(release),
    )
    return facts


def _keras_that_fits(release: Tuple[int, ...]) -> str:
    if not release or release >= (2, 16):
        return "keras>=3"
    if release < (2, 6):
        return "keras<2.4"
    return "keras=={}.{}.*".format(*release)


def release_of(version: str) -> Tuple[int, ...]:
    """Returns the first two numbers of a version, or () if it has none.

    >>> release_of("2.21.0-rc1")
    (2, 21)
    """
    match = re.match(r"(\d+)\.(\d+)", version)
    return tuple(map(int, match.groups())) if match else ()


def ended(code: int, doing: str, text: str, flags: Optional[Sequence[str]]) -> Problem:
    """Returns what is behind a process that has ended in the middle.

    Args:
      code: its exit code, negative for a signal.
      doing: what it was doing.
      text: what it wrote to stderr.
      flags: of the processor, or None.
    """
    if code >= 0:
        what = f"{doing} ends the process with exit code {code}."
        return Problem(what, "`python -c 'import tensorflow'` shows all it says", last_error(text))
    name = signal.Signals(-code).name
    what = f"{doing} ends the process by {name}."
    if name == "SIGILL":
        no_avx = flags is not None and "avx" not in flags and "asimd" not in flags
        why = "It has no AVX, which" if no_avx else "Its instructions are not those that"
        return Problem(
            f"{what} {why} this build of TensorFlow is compiled for.",
            "install a TensorFlow that is built for this processor, or use another machine",
        )
    if name == "SIGKILL":
        return Problem(what, "give it more memory: the system kills what takes too much")
    return Problem(
        what,
        "make a new environment with TensorFlow alone; if it ends there too, another version",
        _where(text),
    )


def _where(text: str) -> str:
    """Returns the line of what was written that tells most of a crash."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"\bFATAL\b|Check failed|\] F |^F\d", line)]
    places = [line for line in lines if line.startswith("File ")]
    return (telling or places[:1] or lines[-1:] or [""])[0]
