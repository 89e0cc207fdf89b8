"""The user's folder of builds. A build is complete or absent, and is checked before use."""

import contextlib
import json
import os
import platform
import shutil
import tempfile
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from tf1xent.errors import KernelsError
from tf1xent.kernels.compiling import Step
from tf1xent.kernels.sources import Target, hash_of, read_bytes

LIBRARY = "libtf1xent_kernels.so"
OBJECTS = "objects"
RECORD = "build.json"
UNFINISHED = ".unfinished-"
# No build takes a day; an older folder was left by a killed one. Objects are for builds for several
# TensorFlows in a row.
OLD_SECONDS = 24 * 3600


class Build(NamedTuple):
    """A build that is not damaged."""

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
        if not os.path.isabs(caches):  # the standard says to ignore a relative one
            caches = os.path.expanduser(os.path.join("~", ".cache"))
    return os.path.join(caches, "tf1xent")


def folder_of(target: Target, compiler: str) -> str:
    """Returns where the build of a compiler belongs."""
    name = target.folder_prefix() + hash_of(compiler.encode())[:12]
    return os.path.join(cache_folder(), name)


def read(folder: str) -> Build:
    """Returns the build in a folder; KernelsError if it is damaged."""
    library = os.path.join(folder, LIBRARY)
    try:
        record = json.loads(read_bytes(os.path.join(folder, RECORD)).decode("utf-8"))
        library_hash = hash_of(read_bytes(library))
    except (OSError, ValueError) as error:
        raise KernelsError(f"the build in {folder} cannot be read ({error})") from error
    if not isinstance(record, dict):
        raise KernelsError(f"the build in {folder} cannot be read ({RECORD} holds no object)")
    if record.get("library_sha256") != library_hash:
        raise KernelsError(f"the library in {folder} is not the one that was built there")
    return Build(library, record)


def find(target: Target) -> Build:
    """Returns the newest build for `target`, of any compiler; KernelsError says why there is none.

    A folder's name says what the build in it is for; the build itself is only checked for damage.
    """
    faults = []
    for folder in _builds(target):
        try:
            return read(folder)
        except KernelsError as error:
            faults.append(str(error))
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
    """Returns the build of one compiler, or None if there is none or it is damaged."""
    try:
        return read(folder_of(target, compiler))
    except KernelsError:
        return None


def _builds(target: Target) -> List[str]:
    """Returns the folders of builds for `target`, the newest first."""
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
    """Makes a folder in the cache to build in, and removes it in the end."""
    root = cache_folder()
    try:
        os.makedirs(root, exist_ok=True)
        outer = tempfile.mkdtemp(prefix=UNFINISHED, dir=root)
        # Only the user may read the outer folder; the build has the user's usual permissions.
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


class Objects:
    """What builds for other TensorFlows can use of a build: objects that include nothing of it.

    Args:
      source_hash: of the sources that the objects are made from.
      compiler: its identity.
    """

    def __init__(self, source_hash: str, compiler: str) -> None:
        self._made_from = [source_hash, compiler]
        self._folder = os.path.join(cache_folder(), OBJECTS)

    def find(self, step: Step) -> Optional[str]:
        """Returns the path of a step's object, or None."""
        place = self._place(step)
        return place if os.path.isfile(place) and not step.includes_tensorflow else None

    def take(self, step: Step, product: str) -> None:
        """Moves a step's object here, or removes it if no other build can use it."""
        if step.includes_tensorflow:
            os.remove(product)
        else:
            os.makedirs(self._folder, exist_ok=True)
            os.replace(product, self._place(step))

    def _place(self, step: Step) -> str:
        name = hash_of(json.dumps([*self._made_from, *step]).encode())
        return os.path.join(self._folder, f"{name}.o")


def remove_leftovers() -> None:
    """Removes old objects, and old folders that killed builds have left."""
    root = cache_folder()
    paths = [os.path.join(root, name) for name in os.listdir(root) if name.startswith(UNFINISHED)]
    with contextlib.suppress(FileNotFoundError):
        objects = os.path.join(root, OBJECTS)
        paths += [os.path.join(objects, name) for name in os.listdir(objects)]
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # another process removes the same
            if time.time() - os.path.getmtime(path) > OLD_SECONDS:
                if os.path.isdir(path):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    os.remove(path)


def write_record(folder: str, target: Target, compiler: str, levels: List[str]) -> None:
    """Records, for people, what the library in `folder` was built for; and its hash."""
    record = dict(
        target._asdict(),
        compiler=compiler,
        tested_levels=levels,
        library_sha256=hash_of(read_bytes(os.path.join(folder, LIBRARY))),
    )
    with open(os.path.join(folder, RECORD), "w", encoding="utf-8") as file:
        json.dump(record, file, indent=2)


def publish(finished: str, target: Target, compiler: str, force: bool) -> Build:
    """Renames a finished folder to its place, unless another process has put a build there."""
    place = folder_of(target, compiler)
    while True:
        try:
            os.rename(finished, place)
            return read(place)
        except OSError:
            if not os.path.isdir(place):
                raise
        there = None if force else find_of(target, compiler)
        if there is not None:
            return there
        # Renamed, then removed: processes that have it loaded keep what they have.
        with unfinished_folder() as away, contextlib.suppress(FileNotFoundError):
            os.rename(place, os.path.join(away, "replaced"))
