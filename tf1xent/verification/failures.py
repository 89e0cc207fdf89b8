"""What is said of a program that cannot be loaded or built. Imports only the standard library."""

import os
import traceback

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_CALLER = "tf1xent verify: "


def described_import(error: BaseException, target: str) -> str:
    """Returns in a line what kept a side from being measured.

    Args:
      error: from the import of the user's module, or from its reading; a ValueError of this
        package names the target itself.
      target: as the user named it.

    Returns:
      Text without a full stop.

    Example:

    >>> described_import(ModuleNotFoundError("No module named 'x'"), "losses.py:before")
    "losses.py:before: ModuleNotFoundError: No module named 'x'"
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    text = lines[0].rstrip(".")
    frames = traceback.extract_tb(error.__traceback__)
    inside = bool(frames) and os.path.abspath(frames[-1].filename).startswith(_PACKAGE + os.sep)
    if isinstance(error, (ValueError, OSError)) and inside:
        text = text[len(_CALLER) :] if text.startswith(_CALLER) else text
        return text if text.startswith(target) else f"{target}: {text}"
    if isinstance(error, SystemExit):
        text = f"its import ends Python with {error.code!r}"
    elif isinstance(error, SyntaxError) and error.filename:
        text = f"{type(error).__name__} at {error.filename}:{error.lineno}: {error.msg}"
    else:
        path = os.path.abspath(target.rpartition(":")[0])
        own = [f for f in frames if os.path.abspath(f.filename) == path]
        place = f" at {os.path.basename(path)}:{own[-1].lineno}" if own else ""
        text = f"{type(error).__name__}{place}: {text}" if text else type(error).__name__
    return f"{target}: {text}"
