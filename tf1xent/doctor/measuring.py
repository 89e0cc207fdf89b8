"""The program that imports TensorFlow and measures it, a step at a time.

It writes a line of JSON before and after each step, so that whoever reads them knows how far it
came when TensorFlow ends the process.
"""

import contextlib
import faulthandler
import json
import logging
import os
import sys
import traceback
import warnings
from typing import Any, Callable, Collection, Dict, List, Mapping, TextIO

IMPORT = "import "
TENSORFLOW, COMPAT, OWN = IMPORT + "tensorflow", IMPORT + "tensorflow.compat.v1", IMPORT + "tf1xent"
PATCH = "tf1xent.patch"
NEEDED = (IMPORT, PATCH)  # by all steps after them
KERAS = "tf.keras"
SETTINGS, DEVICES, KERNELS = "settings of TensorFlow", "devices", "native kernels"
# How the step is called that asks a side for its answer to a check.
STEP = "{key}: {side}"
STOCK, PATCHED = "tensorflow", "tf1xent"


def main(left_out: Collection[str]) -> None:
    """Runs all steps but those that are `left_out`; ends after an import that fails."""
    faulthandler.enable()
    # What is printed meanwhile belongs to stderr.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Its C++ code logs to stderr, also in sessions; 3 leaves what ends the process.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    steps = _Steps(channel, left_out)
    for name, run in ((TENSORFLOW, _tensorflow), (COMPAT, _compat), (OWN, _own)):
        if not steps.run(name, run):
            return
    steps.run(KERAS, _keras)
    steps.run(SETTINGS, _settings)
    _as_tensorflow_1()
    _checks(steps)
    steps.run(KERNELS, _kernels)
    steps.run(DEVICES, _devices)
    os._exit(0)  # all is said, and TensorFlow's own end takes a second


class _Steps:
    """Runs steps and reports them."""

    def __init__(self, channel: TextIO, left_out: Collection[str]) -> None:
        self._channel = channel
        self._left_out = left_out

    def run(self, name: str, function: Callable[[], Dict[str, Any]]) -> bool:
        """Runs a step that is not left out, or is needed; returns whether it has raised nothing."""
        if name in self._left_out and not name.startswith(NEEDED):
            return True
        self._write(step=name)
        try:
            self._write(step=name, result=function())
        except Exception:  # whatever a broken installation raises
            self._write(step=name, error=traceback.format_exc())
            return False
        return True

    def _write(self, **said: Any) -> None:
        self._channel.write(json.dumps(said) + "\n")
        self._channel.flush()


def _tensorflow() -> Dict[str, Any]:
    import tensorflow

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    file = getattr(tensorflow, "__file__", None)
    return {"version": getattr(tensorflow, "__version__", None), "file": file}


def _compat() -> Dict[str, Any]:
    import tensorflow.compat.v1

    return {"there": callable(tensorflow.compat.v1.Session)}


def _own() -> Dict[str, Any]:
    import tf1xent
    from tf1xent.doctor import checks

    return {"patched": tf1xent.is_patched(), "checks": len(checks.CHECKS)}


def _keras() -> Dict[str, Any]:
    import tensorflow

    return {"there": callable(tensorflow.keras.losses.categorical_crossentropy)}  # loaded only now


def _settings() -> Dict[str, Any]:
    from tf1xent import _tf
    from tf1xent._tf import tf

    return {
        "eager": tf.executing_eagerly(),
        "control_flow_v2": bool(_tf.control_flow_v2()),
        "op_determinism": _tf.op_determinism_enabled(),
        "cuda": tf.test.is_built_with_cuda(),
    }


def _as_tensorflow_1() -> None:
    from tf1xent._tf import tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.disable_v2_behavior()


def _checks(steps: _Steps) -> None:
    from tf1xent.doctor import checks

    for check in checks.CHECKS:
        _ask(steps, check, STOCK, checks.stock_answer)
    for options, group in checks.by_options():
        with contextlib.ExitStack() as stack:
            if _patch(steps, stack, options):
                for check in group:
                    _ask(steps, check, PATCHED, checks.own_answer)


def _patch(steps: _Steps, stack: contextlib.ExitStack, options: Mapping[str, Any]) -> bool:
    """Patches until the end of `stack`; returns whether that has worked."""
    import tf1xent
    from tf1xent._loss.implementation import chosen_implementation

    def patch() -> Dict[str, Any]:
        stack.enter_context(tf1xent.patched(**options))
        return {"implementation": chosen_implementation(None)}  # raises if the environment's is bad

    given = ", ".join(f"{name}={value}" for name, value in options.items())
    return steps.run(f"{PATCH}({given})", patch)


def _ask(steps: _Steps, check: Any, side: str, answer: Callable[[Any], Any]) -> None:
    name = STEP.format(key=check.key, side=side)
    steps.run(name, lambda: _answered(check, answer(check)))


def _answered(check: Any, found: Any) -> Dict[str, Any]:
    import numpy as np

    computed = None if found.computed is None else np.asarray(found.computed, float)
    return {
        "key": check.key,
        "question": found.question,
        "remedy": check.remedy,
        "verdict": found.verdict,
        "message": found.message,
        "computed": None if computed is None else _numbers(computed),
        "exact": _numbers(found.exact),
        "error": None if computed is None else _numbers(_relative_error(computed, found.exact)),
    }


def _relative_error(computed: Any, exact: Any) -> Any:
    import numpy as np

    with np.errstate(all="ignore"):
        largest = np.abs(exact).max()
        difference = np.abs(computed - exact).max()
        return difference / largest if largest > 0 else difference


def _numbers(array: Any) -> Any:
    """Returns an array as lists; JSON knows no NaN and no inf, so these are texts."""
    import numpy as np

    if np.ndim(array):
        return [_numbers(part) for part in array]
    return float(array) if np.isfinite(array) else str(float(array))


def _kernels() -> Dict[str, Any]:
    import tf1xent
    from tf1xent import errors, kernels
    from tf1xent.doctor import checks
    from tf1xent.kernels import compiling

    try:
        compiler = compiling.find_compiler().identity
        compiler_error = None
    except errors.KernelsError as error:
        compiler, compiler_error = None, str(error)
    loaded = kernels.available()
    status = kernels.status()
    found: Dict[str, Any] = {
        "loaded": loaded,
        "reason": status.reason,
        "level": status.level,
        "path": status.path,
        "compiler": compiler,
        "compiler_error": compiler_error,
        "wrong": [],
    }
    if loaded:
        (asked,) = [group for options, group in checks.by_options() if not options]
        with tf1xent.patched(implementation="kernel"):
            answers = [checks.own_answer(check) for check in asked]
        found["asked"] = len(asked)
        found["wrong"] = [found.question for found in answers if found.verdict != "right"]
    return found


def _devices() -> Dict[str, Any]:
    from tf1xent._tf import tf

    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        listed: List[Any] = session.list_devices()
    return {"devices": [{"type": d.device_type, "name": d.name} for d in listed]}


if __name__ == "__main__":
    main(sys.argv[1:])
