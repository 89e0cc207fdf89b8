"""Says why a loss is inf or NaN, or does not move any more."""

from tf1xent.diagnostics.causes import CAUSES
from tf1xent.diagnostics.diagnosing import diagnose
from tf1xent.diagnostics.diagnosis import Diagnosis
from tf1xent.diagnostics.finding import Cause, Finding, Trial

__all__ = ["CAUSES", "Cause", "Diagnosis", "Finding", "Trial", "diagnose"]
