"""Finds the cross-entropy ops of a graph, judges them and reports."""

from tf1xent.graphs.inspecting.inspection import inspect_graph, inspected
from tf1xent.graphs.inspecting.report import CrossEntropyOp, GradientAttribute, GraphReport, Verdict

__all__ = [
    "CrossEntropyOp",
    "GradientAttribute",
    "GraphReport",
    "Verdict",
    "inspect_graph",
    "inspected",
]
