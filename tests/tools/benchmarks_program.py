"""Commands of tools/benchmarks, all in this process: python -m ... TOOLS "COMMAND OPTIONS" ...

Prints {what was asked for: [exit code, what was printed]} as JSON.
"""

import concurrent.futures
import contextlib
import io
import json
import runpy
import sys


class Here(concurrent.futures.Executor):
    """In the place of new processes, each of which would import TensorFlow."""

    def submit(self, function, *arguments):
        future = concurrent.futures.Future()
        future.set_result(function(*arguments))
        return future


def run(tools, *commands):
    sys.path.insert(0, tools)
    import measuring

    measuring.new_process = Here
    main = runpy.run_path(tools + "/__main__.py")["main"]
    found = {}
    for command in commands:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            code = main(command.split())
        found[command] = code, printed.getvalue()
    print(json.dumps(found))


if __name__ == "__main__":
    run(*sys.argv[1:])
