"""Runs programs in forks of this process, so that TensorFlow is imported once for all of them.

    python forks.py FOLDER NAME=PROGRAM...

PROGRAM is ``SCRIPT`` or ``-m MODULE`` below the folder `eight`. Its output comes into
FOLDER/NAME.out and FOLDER/NAME.err, its exit status into FOLDER/NAME.code. With ``NAME+=PROGRAM``
it is asked for its Hessian, which it writes to FOLDER/NAME+.npz.
"""

import os
import runpy
import sys
import traceback

import tensorflow  # noqa: F401

PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "eight")


def execute(program):
    """Does what Python does with a program, and returns the exit status."""
    try:
        if program.startswith("-m "):
            sys.argv[:] = [program]
            sys.path[0] = PROGRAMS
            runpy.run_module(program[3:], run_name="__main__", alter_sys=True)
        else:
            sys.argv[:] = [os.path.join(PROGRAMS, program)]
            sys.path[0] = os.path.dirname(sys.argv[0])
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def in_a_fork(name, program, folder):
    """Executes a program in a child process, whose output goes to files."""
    path = os.path.join(folder, name)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        with open(path + ".code", "w") as file:
            file.write(str(os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1))
        return
    for number, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(path + suffix, os.O_WRONLY | os.O_CREAT, 0o600), number)
    if name.endswith("+"):
        os.environ["HESSIAN_TO"] = path + ".npz"
    code = 1
    try:
        code = execute(program)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


for argument in sys.argv[2:]:
    in_a_fork(*argument.split("=", 1), folder=sys.argv[1])
