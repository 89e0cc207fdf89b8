"""Which workers there are, and whether one listens."""

import collections
import errno
import re
import socket
from typing import Any, List, Mapping

from tf1xent._tf import tf

_JOB = "worker"
_PREFIX = "grpc://"
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^/\s:\[\]]+):(?P<port>[0-9]+)")


def targets_of(owner: str, workers: Any) -> List[str]:
    """Returns the session targets, "grpc://host:port", that `workers=` of an operator means.

    Args:
      owner: the name of the operator, for messages.
      workers: a list of "host:port" or "grpc://host:port"; a `tf.train.ClusterSpec`, or what it is
        made from, of one job or with the job "worker". Each task is a worker.

    Raises:
      TypeError: it is nothing of the kind.
      ValueError: it names no worker, one twice, or something that is no address.
    """
    if isinstance(workers, (tf.train.ClusterSpec, Mapping)):
        addresses = _of_cluster(owner, tf.train.ClusterSpec(workers))
    elif isinstance(workers, (list, tuple)):
        addresses = list(workers)
    else:
        raise TypeError(
            f"{owner}: `workers` must be a list of targets, a tf.train.ClusterSpec or a dict, got "
            f"{type(workers).__name__}. Pass ['grpc://host:port', ...]."
        )
    if not addresses:
        raise ValueError(
            f"{owner}: `workers` must name a worker, got none. "
            "Leave it out to compute in the session itself."
        )
    targets = [_target(owner, address) for address in addresses]
    twice = [target for target, count in collections.Counter(targets).items() if count > 1]
    if twice:
        raise ValueError(
            f"{owner}: `workers` must name each worker once, got {', '.join(twice)} more than "
            "once. Start another on a port of its own."
        )
    return targets


def _of_cluster(owner: str, cluster: Any) -> List[str]:
    jobs = cluster.jobs
    if _JOB not in jobs and len(jobs) != 1:
        raise ValueError(
            f"{owner}: `workers` must have the job {_JOB!r} or only one, got the jobs "
            f"{', '.join(sorted(jobs)) or 'none'}. Pass the list of the targets."
        )
    job = _JOB if _JOB in jobs else jobs[0]
    return [cluster.task_address(job, index) for index in cluster.task_indices(job)]


def _target(owner: str, address: Any) -> str:
    if isinstance(address, bytes):  # the target of a tf.train.Server
        address = address.decode()
    if not isinstance(address, str):
        raise TypeError(
            f"{owner}: `workers` must hold strings, got {type(address).__name__}. "
            "Pass ['grpc://host:port', ...]."
        )
    bare = address[len(_PREFIX) :] if address.startswith(_PREFIX) else address
    if _ADDRESS.fullmatch(bare) is None:
        raise ValueError(
            f"{owner}: `workers` must hold 'host:port' or 'grpc://host:port', got {address!r}. "
            "A worker prints its target when it is ready."
        )
    return _PREFIX + bare


def refuses(target: str, seconds: float) -> bool:
    """Whether the machine of a target says that nothing listens there.

    A session on such a target would wait until its limit. A process that is stopped, and a machine
    that is gone, refuse nothing.
    """
    found = _ADDRESS.fullmatch(target[len(_PREFIX) :])
    assert found is not None
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), seconds).close()
    except OSError as error:
        return error.errno == errno.ECONNREFUSED or isinstance(error, socket.gaierror)
    return False
