"""The program of a child: measures one side, in a Python that need not have tf1xent.

Called as `PYTHON child.py FOLDER SIDE`. FOLDER holds job.json and batches.npz; SIDE.json and
SIDE.npz are what was measured, SIDE.error why nothing could be. It ends when its stdin does, so
that it does not outlive the process that started it, however that ends.

Imports only the standard library at the top: this file is read before tf1xent can be found.
"""

import importlib.util
import json
import os
import signal
import sys
import threading


def end_with_stdin() -> None:
    """Ends this process, and what it started, when the other end of stdin closes."""
    watched = os.dup(0)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)

    def watch() -> None:
        while os.read(watched, 1):
            pass
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def find_tf1xent() -> None:
    """Makes tf1xent importable from where this file lies, and nothing else that lies there."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    spec = importlib.util.spec_from_file_location(
        "tf1xent", os.path.join(package, "__init__.py"), submodule_search_locations=[package]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tf1xent"] = module
    spec.loader.exec_module(module)


def is_installed(module: str) -> bool:
    """Whether a module can be found; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # a finder may refuse
        return False


def write_error(folder: str, side: str, text: str) -> None:
    """Says why there is no measurement."""
    with open(os.path.join(folder, side + ".error"), "w", encoding="utf-8") as file:
        file.write(text)


def main(folder: str, side: str) -> int:
    """Runs one side; returns 0, or 1 where SIDE.error says why there is nothing."""
    with open(os.path.join(folder, "job.json"), encoding="utf-8") as file:
        job = json.load(file)
    # The folder of this file is no folder of the user's program.
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != os.path.dirname(__file__)]
    # Nothing is left beside the user's files.
    sys.dont_write_bytecode = True
    missing = [name for name in ("tensorflow", "numpy") if not is_installed(name)]
    if missing:
        write_error(folder, side, f"its Python, {sys.executable}, has no {missing[0]}")
        return 1
    find_tf1xent()
    from tf1xent.verification.failures import described_import

    try:
        if side in job["compat"]:
            from tf1xent.running import compat

            compat.install()
        # No import of TensorFlow in this file: for `compat`, `__main__` is the user's program.
        from tf1xent.verification.one_side import measure_side

        measure_side(folder, side, job)
    except (Exception, SystemExit) as error:  # whatever the user's program raises
        write_error(folder, side, described_import(error, job["targets"][side]))
        return 1
    return 0


if __name__ == "__main__":
    end_with_stdin()
    # TensorFlow's threads may hang at exit, and what a program registered to run then is not asked.
    code = main(os.path.abspath(sys.argv[1]), sys.argv[2])
    sys.stdout.flush()
    os._exit(code)
