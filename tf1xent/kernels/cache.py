"""The user's folder of builds: a build is there whole or not at all, and is checked before use."""

import contextlib
import json
import os
import platform
import shutil
import tempfile
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from tf1xent.errors import KernelsError
from tf1xent.kernels.sources import Target, hash_of, read_bytes

LIBRARY = "libtf1xent_kernels.so"
RECORD = "build.json"
UNFINISHED = ".unfinished-"
# No build takes a day: what is older was left by one that was killed.
OLD_SECONDS = 24 * 3600


class Build(NamedTuple):
    """A build that fits what it was looked up for."""

    library: str
    record: Dict[str, Any]


def cache_folder() -> str:
    """Returns the folder that holds the builds; it need not exist."""
    named = os.environ.get("TF1XENT_KERNEL_CACHE")
    if named:
        return os.path.abspath(os.path.expanduser(named))
    if platform.system() == "Darwin":
        caches = os.path.expanduser(os.path.join("~", "Library", "Caches"))
    else:
        caches = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(caches):  # the standard says to pass over a relative one
            caches = os.path.expanduser(os.path.join("~", ".cache"))
    return os.path.join(caches, "tf1xent")


def folder_of(target: Target, compiler: str) -> str:
    """Returns where the build of a compiler belongs."""
    name = target.folder_prefix() + hash_of(compiler.encode())[:12]
    return os.path.join(cache_folder(), name)


def fault(folder: str, target: Target) -> Optional[str]:
    """Returns why what is in `folder` must not be loaded, or None where it fits."""
    try:
        record = json.loads(read_bytes(os.path.join(folder, RECORD)).decode("utf-8"))
        library_hash = hash_of(read_bytes(os.path.join(folder, LIBRARY)))
    except (OSError, ValueError) as error:
        return f"the build in {folder} cannot be read ({error})"
    if not isinstance(record, dict):
        return f"the build in {folder} cannot be read ({RECORD} holds no object)"
    for name, wanted in target._asdict().items():
        if record.get(name) != wanted:
            return (
                f"the build in {folder} is for another {name}: {record.get(name)!r}, "
                f"where this is {wanted!r}"
            )
    if record.get("library_sha256") != library_hash:
        return f"the library in {folder} is not the one that was built there"
    return None


def find(target: Target) -> Build:
    """Returns the newest build that fits, of any compiler; KernelsError says why there is none."""
    folders = _builds(target)
    faults = []
    for folder in folders:
        found = fault(folder, target)
        if found is None:
            return _build_in(folder)
        faults.append(found)
    if faults:
        raise KernelsError(
            f"The native kernels cannot be used: {faults[0]}. "
            "Run: python -m tf1xent build-kernels --force"
        )
    raise KernelsError(
        f"The native kernels are not built for TensorFlow {target.tensorflow} and these sources "
        f"(none in {cache_folder()}). Run: python -m tf1xent build-kernels"
    )


def find_of(target: Target, compiler: str) -> Optional[Build]:
    """Returns the build of one compiler, or None where there is none that fits."""
    folder = folder_of(target, compiler)
    return _build_in(folder) if fault(folder, target) is None else None


def _build_in(folder: str) -> Build:
    record = json.loads(read_bytes(os.path.join(folder, RECORD)).decode("utf-8"))
    return Build(os.path.join(folder, LIBRARY), record)


def _builds(target: Target) -> List[str]:
    """Returns the folders whose names are right, the newest first."""
    root = cache_folder()
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KernelsError(
            f"The native kernels cannot be used: the cache folder {root} cannot be read "
            f"({error.strerror}). Name another in the variable TF1XENT_KERNEL_CACHE."
        ) from error
    prefix = target.folder_prefix()
    folders = [os.path.join(root, name) for name in sorted(names) if name.startswith(prefix)]
    return sorted(folders, key=_time, reverse=True)


def _time(folder: str) -> float:
    try:
        return os.path.getmtime(folder)
    except FileNotFoundError:  # another process replaces it this moment
        return 0


@contextlib.contextmanager
def unfinished_folder() -> Iterator[str]:
    """Makes a folder to build in, in the cache, and removes what is left of it in the end."""
    root = cache_folder()
    try:
        os.makedirs(root, exist_ok=True)
        outer = tempfile.mkdtemp(prefix=UNFINISHED, dir=root)
        # The outer one is the user's alone; a build is for whom the user's other files are.
        folder = os.path.join(outer, "build")
        os.mkdir(folder)
    except OSError as error:
        raise KernelsError(
            f"The cache folder {root} cannot be written ({error.strerror}). "
            "Name one that can in the variable TF1XENT_KERNEL_CACHE."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def remove_leftovers() -> None:
    """Removes what killed builds have left, once it is old."""
    root = cache_folder()
    for name in os.listdir(root):
        path = os.path.join(root, name)
        with contextlib.suppress(FileNotFoundError):  # another process removes the same
            if name.startswith(UNFINISHED) and time.time() - os.path.getmtime(path) > OLD_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def write_record(folder: str, target: Target, compiler: str, levels: List[str]) -> None:
    """Writes down what the library in `folder` was built for, and its hash."""
    record = dict(
        target._asdict(),
        compiler=compiler,
        tested_levels=levels,
        library_sha256=hash_of(read_bytes(os.path.join(folder, LIBRARY))),
    )
    with open(os.path.join(folder, RECORD), "w", encoding="utf-8") as file:
        json.dump(record, file, indent=2)


def publish(finished: str, target: Target, compiler: str, force: bool) -> Build:
    """Renames a finished folder to its place; what another process put there first is kept."""
    place = folder_of(target, compiler)
    while True:
        try:
            os.rename(finished, place)
            return _build_in(place)
        except OSError:
            if not os.path.isdir(place):
                raise
        if not force and fault(place, target) is None:
            return _build_in(place)
        # Put away whole, and then removed: processes that have it loaded keep what they have.
        with unfinished_folder() as away, contextlib.suppress(FileNotFoundError):
            os.rename(place, os.path.join(away, "replaced"))
