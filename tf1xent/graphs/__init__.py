"""Graphs that exist already: reports on their cross-entropy ops, and rewrites that give Hessians.

`inspect_graph` reports; `rewrite_graph_def`, `rewrite_meta_graph` and `rewrite_saved_model` return
or write new graphs. Files are data: nothing in them is imported, executed or unpickled.

    raw, files, foreign     graph files and protos: find, recognise, read, write as text
    wiring, functions       a graph's nodes by position; the function library
    control_flow, shapes    v1 branches and loops; static shapes
    collections             the control-flow contexts that a MetaGraphDef records
    formula/                the loss as NodeDefs of stock ops
    inspecting/             finds cross-entropy ops, judges them, reports
    loops/                  makes v1 loops and branches functional
    rewriting/              replaces or tags them, writes files
"""

from tf1xent.graphs.inspecting import (
    CrossEntropyOp,
    GradientAttribute,
    GraphReport,
    Verdict,
    inspect_graph,
)
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
