"""Says whether a loss has a second derivative, and what on the way from its variables it lacks."""

from tf1xent.second_order.auditing.auditing import audit, audited
from tf1xent.second_order.auditing.report import Audit, Finding, Kind, Verdict

__all__ = ["Audit", "Finding", "Kind", "Verdict", "audit", "audited"]
