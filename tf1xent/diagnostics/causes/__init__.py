"""The table of causes, in the order of cause and effect: the first that is there is the cause."""

from typing import Tuple

from tf1xent.diagnostics.causes.collapse import COLLAPSE
from tf1xent.diagnostics.causes.half_precision import HALF_PRECISION
from tf1xent.diagnostics.causes.hidden import HIDDEN
from tf1xent.diagnostics.causes.inputs import INPUTS
from tf1xent.diagnostics.causes.labels import LABELS
from tf1xent.diagnostics.causes.learning_rate import LEARNING_RATE
from tf1xent.diagnostics.causes.logarithms import LOG_OF_ZERO
from tf1xent.diagnostics.causes.overflows import OVERFLOW
from tf1xent.diagnostics.causes.parameters import PARAMETERS
from tf1xent.diagnostics.causes.singular_gradients import SINGULAR_GRADIENT
from tf1xent.diagnostics.causes.standing_still import STANDING_STILL
from tf1xent.diagnostics.causes.zero_divisions import ZERO_DIVISION
from tf1xent.diagnostics.finding import Cause

__all__ = ["CAUSES"]

CAUSES: Tuple[Cause, ...] = (
    INPUTS,
    LABELS,
    PARAMETERS,
    HALF_PRECISION,
    LOG_OF_ZERO,
    SINGULAR_GRADIENT,
    ZERO_DIVISION,
    LEARNING_RATE,
    OVERFLOW,
    COLLAPSE,
    STANDING_STILL,
    HIDDEN,
)
