"""Graphs that exist already: what cross-entropy ops are in them, and how they get their Hessians."""

from tf1xent.graphs.rewriting import rewrite_graph_def, rewrite_meta_graph, rewrite_saved_model

__all__ = ["rewrite_graph_def", "rewrite_meta_graph", "rewrite_saved_model"]
