"""Makes a Python process find no TensorFlow, whatever is installed."""

HIDING = """
import sys


class Hidden:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Hidden)
"""


def hide(folder, *names):
    """Writes into a folder what hides modules from a process that has it on its PYTHONPATH."""
    (folder / "sitecustomize.py").write_text(HIDING.format(names=names))
    return folder
