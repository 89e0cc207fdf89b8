"""Forks tasks of clusters, and programs.

Importing TensorFlow costs seconds, a copy of a process that has it, none.

    python -m tests.support.forking_program

Prints ``ready``, then answers each line of its input, in JSON: ``["start", cluster, job, index,
folder]`` starts a `tf.train.Server` in a process of its own, which writes ``out`` and ``err`` in
the folder and says ``ready`` there: answers its process id; ``["kill", id]`` ends it; ``["poll",
id]`` answers its status, null while it lives. ``["run", {...}]`` runs a program in a process of its
own, see `run`. Kills all of them when its input ends. Imports TensorFlow and the standard library,
and what ``["import", module]`` says, so that the programs need not.
"""

import faulthandler
import importlib
import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path


def serve(cluster, job, index, folder, life):
    """Serves one task until the file descriptor `life` ends; a server has no end of its own."""
    # Should this program be killed while the task is stopped, the kernel ends the task: it hangs up
    # on the stopped members of a group that becomes an orphan.
    os.setpgid(0, 0)
    os.dup2(life, 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(str(Path(folder) / name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    import tensorflow.compat.v1 as tf

    server = tf.train.Server(cluster, job_name=job, task_index=index)
    os.write(1, f"ready {server.target}\n".encode())
    os.read(0, 1)


def run(arguments, calls, folder, variables, out, err, seconds):
    """Does what Python does with its arguments, and returns the exit status.

    Args:
      arguments: ["-m", module, ...], ["-c", code, ...] or [script, ...].
      calls: functions that are called before, as "module.function".
      folder: the working directory.
      variables: the environment.
      out, err: the files of what it prints and of its errors; may be one.
      seconds: after which it says where it is, and ends.
    """
    os.setpgid(0, 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    if out == err:
        sys.stdout.reconfigure(line_buffering=True)  # lines of both come in their order
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    try:
        for call in calls:
            module, _, function = call.rpartition(".")
            getattr(importlib.import_module(module), function)()
        execute(*arguments)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def execute(first, *others):
    """Runs a script, or the module or the code that comes after `-m` or `-c`, as the main one."""
    if first not in ("-m", "-c"):
        sys.argv[:] = [first, *others]
        sys.path[0] = str(Path(first).parent)
        runpy.run_path(first, run_name="__main__")
        return
    sys.argv[:] = [first, *others[1:]]
    sys.path[0] = "" if first == "-c" else os.getcwd()
    if first == "-m":
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
    else:
        exec(compile(others[0], "<string>", "exec"), {"__name__": "__main__"})


class Tasks:
    """The processes that this one has forked.

    Attributes:
      statuses: {process id: what waitpid says, None while it lives}.
    """

    def __init__(self):
        self.statuses = {}
        # No task has the writing end: when this process ends, the reading ends do.
        self._life, self._writing = os.pipe()

    def start(self, cluster, job, index, folder):
        """Forks a task; returns its process id."""
        return self._fork(serve, cluster, job, index, folder, self._life)

    def run(self, options):
        """Forks a process that runs a program; returns its process id."""
        return self._fork(run, **options)

    def _fork(self, function, *arguments, **options):
        pid = os.fork()
        if pid == 0:
            try:
                os.close(self._writing)
                os._exit(function(*arguments, **options) or 0)
            except BaseException as error:
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
                os._exit(1)
        self.statuses[pid] = None
        return pid

    def kill(self, pid):
        """Ends a process, also a stopped one; returns its status."""
        if self.poll(pid) is None:
            os.kill(pid, signal.SIGKILL)
            self.statuses[pid] = os.waitpid(pid, 0)[1]
        return self.statuses[pid]

    def poll(self, pid):
        """Returns the status of a process, None while it lives."""
        if self.statuses[pid] is None:
            ended, status = os.waitpid(pid, os.WNOHANG)
            self.statuses[pid] = status if ended else None
        return self.statuses[pid]


def main():
    """Answers until the input ends."""
    os.setpgid(0, 0)  # Ctrl-C in the tests must not reach it.
    import tensorflow.compat.v1  # noqa: F401, before it forks

    tasks = Tasks()
    print("ready", flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        if name == "import":
            answer = importlib.import_module(*arguments).__name__
        else:
            answer = getattr(tasks, name)(*arguments)
        print(json.dumps(answer), flush=True)
    for pid in tasks.statuses:
        tasks.kill(pid)


if __name__ == "__main__":
    main()
