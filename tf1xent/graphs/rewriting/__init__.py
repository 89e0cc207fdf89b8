"""Rewrites the cross-entropy ops of graphs, in memory and in files."""

from tf1xent.graphs.rewriting.rewrite import (
    rewrite_graph_def,
    rewrite_meta_graph,
    rewrite_path,
    rewrite_saved_model,
)

__all__ = ["rewrite_graph_def", "rewrite_meta_graph", "rewrite_path", "rewrite_saved_model"]
