"""One step of training: what it takes to run it again, and the steps before it in numbers."""

from typing import Dict, NamedTuple, Optional

import numpy as np


class Step(NamedTuple):
    """What a step has read.

    Attributes:
      number: the global step, or None if the program counts none.
      feeds: by name of a tensor of `Program.sources`, its value in this step.
      variables: by name of a variable, its value before the step's update.
      loss: the loss as the program's own run gave it, or None if it gave none.
      error: the message with which the program's own run ended, or None.
      is_training: whether the step runs the updates of the variables.
    """

    number: Optional[int]
    feeds: Dict[str, np.ndarray]
    variables: Dict[str, np.ndarray]
    loss: Optional[float] = None
    error: Optional[str] = None
    is_training: bool = True


class History(NamedTuple):
    """The steps so far in numbers, the oldest first; arrays of the same length.

    A bare `diagnose` has none: all arrays are empty.

    Attributes:
      steps: the global step.
      losses: the loss.
      gradient_norms: the norm over all gradients, taken together.
      ratio_steps: the steps at which the update ratios were measured.
      update_ratios: by variable, norm(change of one step) / norm(value), at `ratio_steps`; where
        several steps lie between two measurements, their mean.
      unchanged: by variable, for how many steps it has had the very same value.
      norms: by variable, norm(value) at `ratio_steps`.
      zero_gradients: by variable, for how many steps in a row its gradient has been exactly 0.
      same_batch: whether all steps had the same data, as in the trend that `diagnose` makes.
    """

    steps: np.ndarray
    losses: np.ndarray
    gradient_norms: np.ndarray
    ratio_steps: np.ndarray
    update_ratios: Dict[str, np.ndarray]
    unchanged: Dict[str, int]
    norms: Dict[str, np.ndarray]
    zero_gradients: Dict[str, int]
    same_batch: bool = False


def no_history() -> History:
    """Returns the history of a run of which no step was watched."""
    none = np.zeros([0])
    return History(none, none, none, none, {}, {}, {}, {})
