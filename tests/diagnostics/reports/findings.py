"""Diagnoses for the tests of what is told of them."""

import numpy as np

from tf1xent.diagnostics import Diagnosis, Finding, Trial

LINE = "train.py:41, in model"
TRIAL = Trial("the loss from the logits", "inf", "2.31", True)
ZERO = Finding(
    "log of 0",
    "3 entries of `Softmax:0` are 0, and `Log:0` is their log.",
    "Log:0",
    "Log",
    LINE,
    17,
    {"zeros": np.int64(3), "largest": np.float32(0.25), "rows": np.arange(9), "of": {"x": np.nan}},
    "Compute the loss from the logits.",
    TRIAL,
)
PARAMETERS = Finding(
    "parameters not finite",
    "4 of 8 entries of `w` are NaN.",
    "w",
    None,
    None,
    None,
    {"smallest": float("-inf"), "largest": float("inf")},
    "Start again from a checkpoint before it.",
)
FOUND = Diagnosis("the loss is inf", 150, [ZERO, PARAMETERS], "every op by itself", True)
NOTHING = Diagnosis(None, None, [], "every op by itself", False)
UNKNOWN = Diagnosis("the loss is nan", 0, [], "every op by itself", False)
