"""One task of a cluster: a `tf.train.Server` in a process of its own.

    python -m tests.support.task_program CLUSTER JOB INDEX

CLUSTER is a dict in JSON, as ClusterSpec takes it. Prints ``ready TARGET``, and ends when its input
does. Imports TensorFlow and the standard library only.
"""

import json
import os
import sys


def main(cluster, job, index):
    """Serves until the input ends; a server has no end of its own."""
    # Ctrl-C in the tests must not reach it. Should the tests be killed while it is stopped, the
    # kernel ends it: it hangs up on the stopped members of a group that becomes an orphan.
    os.setpgid(0, 0)
    import tensorflow.compat.v1 as tf

    server = tf.train.Server(json.loads(cluster), job_name=job, task_index=int(index))
    print("ready", server.target, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
