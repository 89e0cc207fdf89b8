"""Settings of the whole test session: no display, a quiet TensorFlow, untimed random cases.

Nothing here touches numerics, and nothing imports tf1xent or TensorFlow.
"""

import logging
import os

from hypothesis import HealthCheck, settings

# Before the first import of TensorFlow; the subprocesses of tests inherit both.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

# "... is deprecated and will be removed" of TF 1.x buries what a test says.
logging.getLogger("tensorflow").setLevel(logging.ERROR)

# A session on two shared cores is slow now and then; a test must not fail for that.
settings.register_profile(
    "tf1xent", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("tf1xent")

# Programs that tests run in processes of their own; collecting doctests would import them here.
collect_ignore_glob = ["routes/*.py", "tape_program.py"]
