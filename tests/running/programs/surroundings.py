"""Prints all that a program can see of how it was started."""

import json
import os
import signal
import sys
import threading


def handler(number):
    """Return what happens at a signal, in words."""
    return getattr(signal.getsignal(number), "__qualname__", str(signal.getsignal(number)))


# What a program's own standard library may have loaded too, so that nothing is said of it.
finders = [type(finder).__name__ for finder in sys.meta_path]
seen = {
    "argv": sys.argv,
    "name": __name__,
    "file": __file__,
    "package": __package__,
    "spec": __spec__ and __spec__.name,
    "main": vars(sys.modules["__main__"]) is globals(),
    "path": sys.path,
    "importers": [path for path in sys.path_importer_cache if path.endswith("startup")],
    "environment": sorted(os.environ.items()),
    "flags": str(sys.flags),
    "warnings": sys.warnoptions,
    "x": sorted(sys._xoptions.items(), key=str),
    "arguments": getattr(sys, "orig_argv", None),
    "executable": sys.executable,
    "prefix": sys.prefix,
    "folder": os.getcwd(),
    "signals": [handler(number) for number in sorted(signal.Signals)],
    "threads": threading.active_count(),
    "files": sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None,
    "site": sys.modules.get("sitecustomize") and sys.modules["sitecustomize"].__file__,
    "unbuffered": sys.stdout.write_through,
    "errors": [sys.stdin.errors, sys.stdout.errors, sys.stdout.encoding],
    "debug": __debug__,
    "hooks": [sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__],
    "recursion": sys.getrecursionlimit(),
    "bytecode": sys.dont_write_bytecode,
    "input": "" if sys.argv[0] == "-" else sys.stdin.read(),
    "finders": [name for name in finders if name != "_Finder"],
}
print(json.dumps(seen, indent=1))
