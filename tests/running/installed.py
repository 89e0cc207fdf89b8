"""What of TensorFlow is installed, found without importing it."""

import importlib.util
from pathlib import Path


def has(package, name="__init__.py"):
    """Tells whether a package is installed and has a file or a folder, without importing it."""
    spec = importlib.util.find_spec(package)
    return spec is not None and (Path(spec.origin).parent / name).exists()


ON_1 = has("tensorflow_core", "contrib") or has("tensorflow", "contrib/slim")
HAS = {
    "contrib": ON_1,
    "estimator": has("tensorflow_estimator"),
    "Keras 2": has("tf_keras") or not has("keras", "_tf_keras"),
}
