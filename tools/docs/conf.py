"""Settings of the documentation: guides from the READMEs, a reference from the docstrings."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))

import tf1xent  # noqa: E402

project = "tf1xent"
author = copyright = "The tf1xent developers"
release = version = tf1xent.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
# The sources are the checkout's: what a reader finds beside the code is what is built.
root_doc = "tools/docs/index"
include_patterns = [
    "CHANGELOG.md",
    "README.md",
    "ops/README.md",
    "tests/parallel_training/README.md",
    "tf1xent/**/README.md",
    "tools/*/RESULTS.md",
    "tools/examples/README.md",
    "tools/docs/*.md",
    "tools/docs/*.rst",
]
html_theme = "alabaster"
# What a docstring writes in single backquotes is code, or a name that is code.
default_role = "code"
autodoc_member_order = "alphabetical"
autodoc_typehints = "none"
napoleon_use_rtype = False
myst_heading_anchors = 3
nitpicky = False
