"""What Python imports at its start, before the program: patches TensorFlow once that is imported.

Any Python may get here that a program starts, also a Python 2; so nothing newer is used here.
"""

import json
import os
import sys

if __name__ == "sitecustomize":  # not where a tool imports all modules of the package
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != folder]
    sys.path_importer_cache.pop(folder, None)
    settings = json.loads(os.environ.get("TF1XENT_RUN", "{}"))
    if settings.get("python") == [sys.version, sys.prefix]:
        # tf1xent need not be on the program's path, and must not change it.
        from importlib import util

        package = os.path.dirname(os.path.dirname(folder))
        spec = util.spec_from_file_location("tf1xent", os.path.join(package, "__init__.py"))
        sys.modules["tf1xent"] = util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["tf1xent"])
        from tf1xent.running import starting

        starting.start()
    # The user's own, or Python's answer that there is none.
    del sys.modules["sitecustomize"]
    import sitecustomize  # noqa: F401
