"""The C++ sources, and the target that a library built from them is for."""

import hashlib
import json
import os
import platform
from typing import List, NamedTuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.errors import KernelsError
from tf1xent.kernels import compiling

# Every folder of sources has this file, by which the folder is recognised.
MAIN_SOURCE = "tensorflow_ops.cc"
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Bytes of TensorFlow's library that identify it: an ELF file begins with its symbols.
_BEGINNING = 1 << 20


class Target(NamedTuple):
    """What a library is built for. A library for another target is never loaded."""

    tensorflow: str  # its version
    framework: str  # a fingerprint of its library, because builds of one version can differ
    sources: str  # a hash of the C++ sources
    architecture: str
    recipe: List[str]  # how each file is compiled and all are linked, without paths

    def folder_prefix(self) -> str:
        """The start of the name of a build's folder: all fields. The compiler follows."""
        rest = hash_of(json.dumps([self.framework, self.recipe]).encode())
        version = "".join(c if c.isalnum() or c == "." else "_" for c in self.tensorflow)
        return f"tensorflow-{version}-{self.architecture}-{self.sources[:12]}-{rest[:12]}-"


def hash_of(content: bytes) -> str:
    """The SHA-256 of `content`, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read_bytes(path: str, most: int = -1) -> bytes:
    """The first bytes of a file, by default all."""
    with open(path, "rb") as file:
        return file.read(most)


def source_folder() -> str:
    """Returns the folder of the sources: in the installed package, else in the checkout."""
    for folder in (_PACKAGE, os.path.dirname(_PACKAGE)):
        if os.path.isfile(os.path.join(folder, "ops", MAIN_SOURCE)):
            return os.path.join(folder, "ops")
    raise KernelsError(
        f"This installation of tf1xent has no sources of the native kernels (ops/{MAIN_SOURCE}). "
        "Install it from a wheel or an sdist."
    )


def source_hash(folder: str) -> str:
    """Returns one hash of the names and contents of all C++ sources of a folder."""
    names = sorted(name for name in os.listdir(folder) if name.endswith((".h", ".cc")))
    hashes = [(name, hash_of(read_bytes(os.path.join(folder, name)))) for name in names]
    return hash_of(json.dumps(hashes).encode())


def framework_library() -> str:
    """Returns the path of the library of TensorFlow that op libraries are linked with."""
    name = compiling.linked_library(tf.sysconfig.get_link_flags())
    return os.path.join(tf.sysconfig.get_lib(), name)


def current_target(folder: str) -> Target:
    """Returns the target here: this TensorFlow, these sources, this machine."""
    architecture = platform.machine().lower().replace("amd64", "x86_64")
    try:
        framework = framework_library()
        size = os.path.getsize(framework)
        fingerprint = hash_of(str(size).encode() + read_bytes(framework, _BEGINNING))
        sources = source_hash(folder)
    except OSError as error:
        raise KernelsError(
            f"A file that native kernels are built from cannot be read: {error}."
        ) from error
    flags = tf.sysconfig.get_compile_flags(), tf.sysconfig.get_link_flags()
    recipe = compiling.recipe(architecture, *flags)
    return Target(_tf.version(), fingerprint, sources, architecture, recipe)
