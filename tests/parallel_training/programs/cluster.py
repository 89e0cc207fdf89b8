"""Flags that tell a program its cluster and its place in it, as all of them have."""

import time

import tensorflow.compat.v1 as tf

flags = tf.app.flags
flags.DEFINE_string("ps_hosts", "", "Addresses of the parameter servers, with commas.")
flags.DEFINE_string("worker_hosts", "", "Addresses of the workers, with commas.")
flags.DEFINE_string("job_name", "worker", "What this process is: ps or worker.")
flags.DEFINE_integer("task_index", 0, "Its number in its job.")
flags.DEFINE_integer("steps", 16, "How many steps.")
flags.DEFINE_boolean("curvature", False, "Whether the first worker multiplies with the Hessian.")
flags.DEFINE_string("results", "results.npz", "The file that is written.")
FLAGS = flags.FLAGS


def spec():
    """Returns the cluster that the flags describe."""
    jobs = {"ps": FLAGS.ps_hosts, "worker": FLAGS.worker_hosts}
    return tf.train.ClusterSpec({job: hosts.split(",") for job, hosts in jobs.items()})


def server():
    """Starts the server of this task; does not return if that is all the task is there for."""
    found = tf.train.Server(spec(), job_name=FLAGS.job_name, task_index=FLAGS.task_index)
    if FLAGS.job_name == "ps":
        found.join()
    return found


def wait_for_chief(target):
    """Returns when the chief has initialized the variables.

    MonitoredTrainingSession waits too, but looks only every 30 seconds.
    """
    missing = tf.report_uninitialized_variables(tf.global_variables())
    with tf.Session(target, config=config()) as session:
        while len(session.run(missing)):
            time.sleep(0.05)


def worker_device():
    """Returns the device of this worker."""
    return f"/job:worker/task:{FLAGS.task_index}"


def config():
    """Returns the options of a session that knows this worker and the parameter servers only.

    So it notices nothing when other workers end, or have not started yet.
    """
    return tf.ConfigProto(device_filters=["/job:ps", worker_device()])
