"""Says why a loss is inf or NaN, or does not move any more."""

from typing import TYPE_CHECKING, Any

from tf1xent.diagnostics.causes import CAUSES
from tf1xent.diagnostics.diagnosing import diagnose
from tf1xent.diagnostics.diagnosis import Diagnosis
from tf1xent.diagnostics.finding import Cause, Finding, Trial
from tf1xent.diagnostics.watching.alarms import LossProblemError
from tf1xent.diagnostics.watching.hook import LossDoctorHook
from tf1xent.diagnostics.watching.loss_doctor import LossDoctor

if TYPE_CHECKING:
    from tf1xent.diagnostics.watching.keras_callback import LossDoctorCallback

__all__ = [
    "CAUSES",
    "Cause",
    "Diagnosis",
    "Finding",
    "LossDoctor",
    "LossDoctorCallback",
    "LossDoctorHook",
    "LossProblemError",
    "Trial",
    "diagnose",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Loads on first use what imports Keras: that takes seconds."""
        if name == "LossDoctorCallback":
            from tf1xent.diagnostics.watching.keras_callback import LossDoctorCallback

            return LossDoctorCallback
        raise AttributeError(f"module 'tf1xent.diagnostics' has no attribute {name!r}")
