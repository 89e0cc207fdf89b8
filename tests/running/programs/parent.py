"""Starts processes in all ways; each says whether tf1xent waits for TensorFlow in it."""

import multiprocessing
import subprocess
import sys


def answer(name):
    """Say whether this process is prepared."""
    waits = any(type(finder).__module__ == "tf1xent._registration" for finder in sys.meta_path)
    print(name, "prepared" if waits else "plain", flush=True)


if __name__ == "__main__":
    answer("program")
    for method in ("fork", "spawn", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=answer, args=(method,))
        process.start()
        process.join()
    code = "import sys; sys.path.insert(0, '.'); import parent; parent.answer('{}')"
    subprocess.check_call([sys.executable, "-c", code.format("subprocess")])
    subprocess.check_call([sys.executable, "-I", "-c", code.format("isolated")])
    grandchild = [sys.executable, "-c", code.format("grandchild")]
    subprocess.check_call(
        [sys.executable, "-c", f"import subprocess; subprocess.check_call({grandchild!r})"]
    )
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.map(answer, ["pool"])
