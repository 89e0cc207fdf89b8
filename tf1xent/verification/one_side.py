"""What a child does once tf1xent can be imported."""

import os
from typing import Any, Dict

import tf1xent
from tf1xent._tf import tf
from tf1xent.verification.batches import load_batches
from tf1xent.verification.comparing import setting_of
from tf1xent.verification.loading import load_program
from tf1xent.verification.measuring import measure


def measure_side(folder: str, side: str, job: Dict[str, Any]) -> None:
    """Measures a side on the batches in a folder, and writes the result into it."""
    tf.logging.set_verbosity(tf.logging.ERROR)
    if side in job["patched"]:
        tf1xent.patch()
    setting = setting_of(**job["setting"])
    program = load_program(job["targets"][side], job["losses"][side], setting, side)
    batches = load_batches(os.path.join(folder, "batches.npz"))
    measure(program, batches, setting.time_steps).save(os.path.join(folder, side))
