"""Starts a worker: TensorFlow's own server, alone in its cluster."""

import os
import socket
from typing import Any, Optional

from tf1xent import kernels
from tf1xent._tf import tf
from tf1xent.curvature.workers import loopback

__all__ = ["start_worker"]

JOB = "worker"


def start_worker(
    port: int = 0,
    *,
    listen_on_all_interfaces: bool = False,
    threads: Optional[int] = None,
    caller: str = "start_worker",
) -> Any:
    """Starts a worker for the `workers` of a curvature operator in this process.

    ``tf1xent worker`` does this in a process of its own. Call it where a program has to load ops of
    its own first (`tf.load_op_library`): the graph comes from the client, and the worker must know
    all its ops. The native kernels are loaded if they are built. A graph with `tf.py_func` runs
    only in the process that has made it.

    The server is a cluster of one task, job "worker", so that its end concerns no other worker.
    TensorFlow's server has no authentication: whoever reaches the port can run any graph, and so
    read and write the user's files. It listens on all interfaces, whatever its cluster says. On
    Linux this function limits it to connections of the same machine; `tf.Session` then reaches it
    at ``grpc://127.0.0.1:PORT``, and another machine by a tunnel such as ``ssh -L``.

    Args:
      port: where it listens; 0 takes one that is free.
      listen_on_all_interfaces: whether other machines may connect. For a network that you trust.
      threads: of TensorFlow's computations, default one for each processor. Sums of a batch may
        differ in their last bits where workers have different numbers.
      caller: what errors begin with.

    Returns:
      The started `tf.train.Server`; its `target` ends with the port. It serves as long as the
      process lives: TensorFlow has no way to stop one.

    Raises:
      OSError: the port cannot be had.
      RuntimeError: connections cannot be limited to this machine, and it has other network
        interfaces, or does not tell which.
      ValueError: `port` is none.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import start_worker
    >>> server = start_worker(threads=1)
    >>> with tf.Graph().as_default(), tf.Session(server.target) as session:
    ...     print(session.run(tf.constant(2.0) * 3))
    6.0
    """
    _check_port(port, caller)
    is_limited = not listen_on_all_interfaces and _can_be_limited(caller)
    kernels.available()
    config = tf.ConfigProto()
    if threads is not None:
        config.intra_op_parallelism_threads = config.inter_op_parallelism_threads = threads
    cluster = tf.train.ClusterSpec({JOB: [f"127.0.0.1:{port}"]})
    try:
        server = tf.train.Server(cluster, JOB, 0, config=config, start=False)
    except tf.errors.UnknownError as error:  # somebody was faster
        raise OSError(f"{caller}: {error.message}, port {port}.") from error
    if is_limited:
        loopback.limit_to_loopback(port_of(server))
    server.start()
    return server


def port_of(server: Any) -> int:
    """Returns the port of a `tf.train.Server`."""
    return int(server.target.rpartition(":")[2])


def _check_port(port: int, caller: str) -> None:
    """Checks that the port can be had; TensorFlow does not say why it cannot."""
    if not 0 <= port <= 65535:  # TensorFlow takes it modulo 65536
        raise ValueError(
            f"{caller}: `port` must be from 0 to 65535, got {port}. 0 takes one that is free."
        )
    with socket.socket() as probe:
        if os.name == "posix":  # as gRPC does, which else waits for the last connections' end
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise OSError(
                f"{caller}: `port` must be one that can be had, got {port}: {error.strerror}. "
                "0 takes one that is free."
            ) from error


def _can_be_limited(caller: str) -> bool:
    """Whether the server can be limited to the loopback; RuntimeError if not, but it has to be."""
    reason = loopback.why_not()
    if reason is None:
        return True
    others = loopback.other_interfaces()
    if others is not None and not others:
        return False
    has = "whose network interfaces are unknown" if others is None else f"with {', '.join(others)}"
    raise RuntimeError(
        f"{caller}: a worker must be limited to connections of this machine, {has}, but that does "
        f"not work here ({reason}). TensorFlow's server has no authentication: whoever reaches the "
        "port can run any graph, and so read and write your files. In a network that you trust, "
        "allow it: listen_on_all_interfaces=True, of the command --listen-on-all-interfaces."
    )
