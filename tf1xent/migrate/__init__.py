"""Moves source code that calls, or writes by hand, a cross-entropy to exact losses.

No TensorFlow, and nothing of the code that is moved is imported or run. It needs libcst:
``pip install tf1xent[migrate]``.
"""

from tf1xent.migrate.finding import Finding, Options, Result
from tf1xent.migrate.rewriting import migrate_source

__all__ = ["Finding", "Options", "Result", "migrate_source"]
