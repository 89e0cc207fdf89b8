"""Graphs that exist already: their cross-entropy ops, and how these get their Hessians.

`inspect_graph` reports; `rewrite_graph_def`, `rewrite_meta_graph` and `rewrite_saved_model` return
or write new graphs. Files are data: nothing in them is imported, executed or unpickled.
"""

from tf1xent.graphs.inspection import inspect_graph
from tf1xent.graphs.report import CrossEntropyOp, GradientAttribute, GraphReport, Verdict
from tf1xent.graphs.rewriting import rewrite_graph_def, rewrite_meta_graph, rewrite_saved_model

__all__ = [
    "CrossEntropyOp",
    "GradientAttribute",
    "GraphReport",
    "Verdict",
    "inspect_graph",
    "rewrite_graph_def",
    "rewrite_meta_graph",
    "rewrite_saved_model",
]
