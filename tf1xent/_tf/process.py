"""What tf1xent has changed in this process, kept where a second import of tf1xent finds it."""

from tensorflow.python.framework import ops


def kept_in_process(name, make):
    """Returns what ``make()`` returned when the process first asked for `name`.

    It is kept with TensorFlow: a module of tf1xent that is reloaded, or removed from sys.modules
    and imported again while the patch is in force, starts from nothing.
    """
    kept = vars(ops).setdefault("_tf1xent_kept_in_process", {})
    if name not in kept:
        kept[name] = make()
    return kept[name]
