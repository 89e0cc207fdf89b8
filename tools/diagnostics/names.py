"""The names that runs go by; without TensorFlow."""

from typing import Tuple

MODELS = ("MLP", "CNN", "tagger")
CLEAN = "none"
# The causes that `tf1xent.diagnostics` knows, in its order.
CAUSES: Tuple[str, ...] = (
    "inputs not finite",
    "labels out of range",
    "parameters not finite",
    "half precision",
    "log of 0",
    "singular gradient",
    "0/0",
    "learning rate",
    "overflow",
    "float32 collapse",
    "parameters do not change",
    "NaN hidden",
)
# Cause, model, seed.
Key = Tuple[str, str, int]
