"""Finds the cause of a step that went wrong."""

from typing import Any, Dict, Mapping, Optional

import numpy as np

from tf1xent._typing import Session, Tensor
from tf1xent.diagnostics.causes import CAUSES
from tf1xent.diagnostics.diagnosis import Diagnosis
from tf1xent.diagnostics.evidence import Evidence
from tf1xent.diagnostics.program import Program
from tf1xent.diagnostics.replay import Replay
from tf1xent.diagnostics.step import History, Step, no_history

_HOW = "every op by itself, without grappler"


def diagnose(
    session: Session,
    loss: Tensor,
    feed_dict: Optional[Mapping[Any, Any]] = None,
    *,
    train_op: Any = None,
    variables: Optional[Mapping[str, np.ndarray]] = None,
) -> Diagnosis:
    """Says why a loss is inf or NaN, or does not move any more."""
    graph = session.graph
    program = Program(graph, loss, train_op)
    feeds: Dict[str, np.ndarray] = {
        graph.as_graph_element(key).name: np.asarray(value)
        for key, value in dict(feed_dict or {}).items()
    }
    values = session.run(program.variables)
    values.update(variables or {})
    return diagnose_step(program, Step(None, feeds, values))


def diagnose_step(program: Program, step: Step, history: Optional[History] = None) -> Diagnosis:
    """Finds the cause of one step; what `diagnose` and the hooks share."""
    with Replay(program) as replay:
        evidence = Evidence(program, step, history or no_history(), replay)
        found = [cause.probe(evidence) for cause in CAUSES]
    findings = [finding for finding in found if finding is not None]
    loss = evidence.recording.loss if step.loss is None else step.loss
    wrong = loss is None or not np.all(np.isfinite(loss))
    problem = f"the loss is {loss}" if wrong else None
    return Diagnosis(problem, step.number, findings, _HOW, bool(evidence.origins))
