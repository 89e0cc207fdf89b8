"""The processes that tests start."""

import os

from tests import ROOT

# From 2.15 on TensorFlow imports Keras with itself, which takes as much time again, but where this
# says that the program brings a Keras of its own.
WITHOUT_KERAS = {"TF_USE_LEGACY_KERAS": "1"}


def environment(**variables):
    """Returns the variables of a process that finds this checkout and is not about Keras."""
    return dict(os.environ, PYTHONPATH=str(ROOT), **WITHOUT_KERAS, **variables)
