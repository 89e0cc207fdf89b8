"""The parent's end of a process of tools/benchmark_worker.py."""

import json
import os
import subprocess
import sys

WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "benchmark_worker.py")
STOP_SECONDS = 10


class Worker:
    """A process that has one framework loaded and answers requests until it is stopped."""

    def __init__(self, python, settings, variables=None):
        variables = dict(os.environ, **(variables or {}))
        # Threads of libraries that read their number from here and not from their own options.
        variables["OMP_NUM_THREADS"] = str(settings["threads"])
        if python != sys.executable:
            # What leads Python to packages elsewhere must not reach another version of it.
            variables.pop("PYTHONHOME", None)
            variables.pop("PYTHONPATH", None)
        self._name = settings["framework"]
        self._process = subprocess.Popen(
            [python, WORKER, json.dumps(settings)],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            universal_newlines=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        described = self._answer()
        self.versions, self.missing = described["versions"], described["missing"]

    def ask(self, what, **request):
        """Returns the answer to a request; what they are, benchmark_worker.py tells."""
        try:
            self._requests.write(json.dumps(dict(request, do=what)) + "\n")
            self._requests.flush()
        except BrokenPipeError:
            pass  # it has ended: there is no answer, which says so
        return self._answer()

    def _answer(self):
        line = self._answers.readline()
        if not line:
            self._process.wait()
            raise RuntimeError(
                f"the process of {self._name} ended with {self._process.returncode}; what it wrote "
                "to standard error says why"
            )
        return json.loads(line)

    def stop(self):
        """Ends the process: by the end of its requests, or by force if it does not listen."""
        try:
            self._requests.close()
        except BrokenPipeError:
            pass  # it has ended by itself
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()
