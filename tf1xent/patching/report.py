"""What is patched, and what the TensorFlow at hand lacks by itself."""

from typing import Optional, Sequence, Tuple

from tf1xent import _probes, _table, _tf
from tf1xent._loss.implementation import chosen_implementation
from tf1xent.patching import state

__all__ = ["Status", "status"]


class Status:
    """What `status` found.

    Attributes:
      tensorflow: version of the TensorFlow in the process.
      patched: whether the patch is in force.
      gradients_overridden: whether the process's gradient lookup is overridden.
      implementation: what computes the patched functions, "graph", "kernel" or "auto"; or why
        calling them raises.
      bindings: list of (module name, name in it): where our function replaces TensorFlow's.
      skipped: list of (name, reason): what refused to be replaced or to be put back, and the
        gradients of fused ops that other code has replaced.
      stock: tuple of (question, answer): what TensorFlow's own functions return, probed.
      control_flow: what new loops and branches of graphs are built of: "v1", "v2", or "v2, by
        tf1xent".
    """

    def __init__(
        self,
        tensorflow: str,
        patched: bool,
        gradients_overridden: bool,
        implementation: str,
        bindings: Sequence[Tuple[str, str]],
        stock: Sequence[Tuple[str, str]],
        skipped: Sequence[Tuple[str, str]] = (),
        control_flow: str = "v1",
    ) -> None:
        self.tensorflow = tensorflow
        self.patched = patched
        self.gradients_overridden = gradients_overridden
        self.implementation = implementation
        self.bindings = bindings
        self.stock = stock
        self.skipped = skipped
        self.control_flow = control_flow

    def __str__(self) -> str:
        rows = [
            ("TensorFlow", self.tensorflow),
            ("patched", "yes" if self.patched else "no"),
            ("gradients of the fused ops overridden", "yes" if self.gradients_overridden else "no"),
            ("implementation", self.implementation),
            ("control flow", self.control_flow),
        ]
        rows += [("TensorFlow's own " + question, answer) for question, answer in self.stock]
        rows += [("replaced in " + module, name) for module, name in self.bindings]
        rows += [("skipped " + name, reason) for name, reason in self.skipped]
        return "\n".join(_table.aligned(rows))

    __repr__ = __str__


def status() -> Status:
    """Returns what is patched, where, on which TensorFlow, and what that TensorFlow lacks.

    What it lacks is found by running its functions on a few numbers, in a session on the CPU, once
    in a process. It never raises.

    Returns:
      A `Status`, whose `str` is a table.

    Example:

    >>> import tf1xent
    >>> with tf1xent.patched():
    ...     "tensorflow.python.ops.nn_ops" in dict(tf1xent.status().bindings)
    True
    """
    with state.STATE.lock:
        bindings, implementation = state.replaced_names(), state.implementation_in_force()
    overridden, foreign = _tf.process_override()
    skipped = state.refusals()
    skipped += [(f"the gradient of {op_type}", "somebody else's is there") for op_type in foreign]
    return Status(
        tensorflow=_tf.version(),
        patched=bool(bindings),
        gradients_overridden=overridden and not foreign,
        implementation=_chosen(implementation),
        bindings=bindings,
        stock=_probes.stock_deficiencies(),
        skipped=skipped,
        control_flow=state.control_flow(),
    )


def _chosen(implementation: Optional[str]) -> str:
    try:
        return chosen_implementation(implementation)
    except ValueError as error:  # the environment variable has no valid value
        return f"none: {error}"
