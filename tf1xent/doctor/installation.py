"""What is installed in this Python and what is set in the environment; imports none of it."""

import importlib
import importlib.util
import os
import sys
from typing import Any, Collection, Dict, List, Mapping, Optional

# The names under which TensorFlow is installed.
TENSORFLOWS = (
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-gpu",
    "tensorflow-intel",
    "tensorflow-macos",
    "tensorflow-rocm",
    "intel-tensorflow",
    "tf-nightly",
    "tf-nightly-cpu",
)
# What TensorFlow's import depends on, and what commands of tf1xent need.
PACKAGES = ("numpy", "protobuf", "keras", "tf_keras", "h5py", "scipy", "libcst", "mpmath", "tqdm")
SETTINGS = (
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION",
    "PYTHONPATH",
    "TF2_BEHAVIOR",
    "TF_CUDNN_DETERMINISTIC",
    "TF_DETERMINISTIC_OPS",
    "TF_DISABLE_MKL",
    "TF_ENABLE_CONTROL_FLOW_V2",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_FORCE_GPU_ALLOW_GROWTH",
    "TF_USE_LEGACY_KERAS",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
)
_OWN_SETTINGS = "TF1XENT_"
_CPU_FLAGS = ("sse4_2", "avx", "fma", "avx2", "avx512f", "asimd")


def versions() -> Dict[str, str]:
    """Returns the versions of what is installed, by distribution: TensorFlow and `PACKAGES`."""
    found = {name: _version(name) for name in TENSORFLOWS + PACKAGES}
    return {name: version for name, version in found.items() if version is not None}


def _version(name: str) -> Optional[str]:
    distribution = _distribution(name)
    try:
        return None if distribution is None else distribution.version
    except KeyError:  # a damaged one
        return None


def _distribution(name: str) -> Any:
    for module in ("importlib.metadata", "importlib_metadata"):  # the second on Python 3.7
        try:
            metadata: Any = importlib.import_module(module)
        except ImportError:
            continue
        try:
            return metadata.distribution(name)
        except metadata.PackageNotFoundError:
            return None
    return None


def is_installed_at(place: str, distributions: Collection[str]) -> bool:
    """Whether a file of a package belongs to one of the installed distributions."""
    found = [_distribution(name) for name in distributions]
    folders = [os.path.realpath(str(each.locate_file(""))) for each in found if each is not None]
    return any(os.path.realpath(place).startswith(folder + os.sep) for folder in folders)


def tensorflows(installed: Mapping[str, str]) -> List[str]:
    """Returns the distributions of TensorFlow among the installed ones."""
    return [name for name in TENSORFLOWS if name in installed]


def tensorflow_place() -> Optional[str]:
    """Returns the file or folder that `import tensorflow` would take, or None for none."""
    try:
        spec = importlib.util.find_spec("tensorflow")
    except (ImportError, ValueError):  # a finder may refuse
        return None
    if spec is None:
        return None
    if spec.origin not in (None, "namespace"):
        return spec.origin
    return next(iter(spec.submodule_search_locations or ()), None)


def settings() -> Dict[str, str]:
    """Returns the environment variables that change what TensorFlow or tf1xent does."""
    names = [n for n in os.environ if n in SETTINGS or n.startswith(_OWN_SETTINGS)]
    return {name: os.environ[name] for name in sorted(names)}


def processor_flags() -> Optional[List[str]]:
    """Returns which of the instruction sets that matter the processor has; None: not known."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            lines = [line for line in file if line.startswith(("flags", "Features"))]
    except OSError:
        return None
    words = set(lines[0].split()) if lines else set()
    return [flag for flag in _CPU_FLAGS if flag in words] if lines else None


def has_nvidia_driver() -> bool:
    """Whether the driver of an NVIDIA GPU is loaded (on Linux)."""
    return os.path.exists("/proc/driver/nvidia/version")


def other_environment() -> Optional[str]:
    """Returns the virtual environment that is active in the shell, if this Python is not its."""
    active = os.environ.get("VIRTUAL_ENV")
    if not active or os.path.realpath(active) == os.path.realpath(sys.prefix):
        return None
    return active
