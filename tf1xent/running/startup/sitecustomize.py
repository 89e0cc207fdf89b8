"""What Python imports at its start, before the program: prepares the patch of TensorFlow.

Any Python may come here that a program starts, also a Python 2: nothing newer before it is known.
"""

import json
import os
import sys

if __name__ == "sitecustomize":  # not where a tool imports all modules of the package
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != folder]
    sys.path_importer_cache.pop(folder, None)
    if json.loads(os.environ.get("TF1XENT_RUN", "{}")).get("python") == [sys.version, sys.prefix]:
        try:
            import importlib.util
            from typing import Any  # noqa: F401

            # The program's path need not have tf1xent, and must not change.
            init = os.path.join(os.path.dirname(os.path.dirname(folder)), "__init__.py")
            spec = importlib.util.spec_from_file_location("tf1xent", init)  # type: Any
            sys.modules["tf1xent"] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules["tf1xent"])
            from tf1xent.running import starting

            starting.start()
        except Exception as error:  # of which Python would go on without a word of where it is from
            sys.stderr.write("tf1xent run: cannot prepare the patch: " + repr(error) + "\n")
            sys.stderr.flush()
            os._exit(2)
    # The user's own, or Python's own answer that there is none.
    del sys.modules["sitecustomize"]
    import sitecustomize  # type: ignore[import-not-found] # noqa: F401
