"""``tf1xent worker``."""

import argparse
import atexit
import contextlib
import os
import signal
import socket
import sys
import time
from typing import Any, Optional

from tf1xent.cli.checks import count, is_installed, positive_integer
from tf1xent.cli.messages import SIGNALLED, refused

COMMAND = "worker"
CALLER = f"tf1xent {COMMAND}"
# Of the package that the server stands in, besides TensorFlow.
REQUIREMENTS = ("scipy", "tqdm")
_LONG = 3600.0


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        COMMAND,
        help="a process that computes for `--workers` of spectrum, and `workers=` of operators",
        description="Starts a server of TensorFlow that runs the batches of curvature operators, "
        "and prints its address in one line, such as grpc://127.0.0.1:2222, when it is ready. It "
        "needs neither the model nor the data: both come from the client. Serves until Ctrl-C or "
        "SIGTERM.",
        epilog="TensorFlow's server has no authentication: whoever reaches the port can run any "
        "graph, and so read and write your files. It listens on all network interfaces. On Linux, "
        "this command makes it ignore all but connections of the same machine; a client on another "
        "one comes by a tunnel: ssh -L 2222:127.0.0.1:2222 HOST. Where that cannot be done, it "
        "refuses to start on a machine that has other interfaces than the loopback.",
    )
    parser.add_argument(
        "--port",
        metavar="N",
        type=count,
        default=0,
        help="where to listen; default 0, any that is free",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=positive_integer,
        help="of TensorFlow's computations; default one for each processor. Give all workers the "
        "same number, or sums may differ in their last bits",
    )
    parser.add_argument(
        "--listen-on-all-interfaces",
        action="store_true",
        help="let other machines connect, in a network that you trust",
    )
    parser.set_defaults(check=check, run=run)


def check(options: argparse.Namespace) -> Optional[str]:
    """Returns what is not installed, or None."""
    missing = [name for name in REQUIREMENTS if not is_installed(name)]
    return f"needs {', '.join(missing)}. Run: pip install tf1xent[curvature]" if missing else None


def run(options: argparse.Namespace) -> int:
    """Starts the server and waits for a signal."""
    from tf1xent.curvature.workers.serving import port_of, start_worker

    try:
        server = start_worker(
            options.port,
            listen_on_all_interfaces=options.listen_on_all_interfaces,
            threads=options.threads,
            caller=CALLER,
        )
    except (OSError, RuntimeError, ValueError) as error:
        return refused(COMMAND, error)
    host = socket.gethostname() if options.listen_on_all_interfaces else "127.0.0.1"
    print(f"grpc://{host}:{port_of(server)}", flush=True)
    try:
        while True:  # tf.train.Server.join would wait in C++, where no signal is seen
            time.sleep(_LONG)
    except KeyboardInterrupt as stopped:
        number = stopped.args[0] if stopped.args else signal.SIGINT
        atexit.register(_end_now, SIGNALLED + number)
        raise


def _end_now(code: int) -> None:
    """Ends the process without TensorFlow's tear-down, which crashes where a step still runs."""
    with contextlib.suppress(AttributeError, OSError):  # stderr is closed
        sys.stderr.flush()
    os._exit(code)
