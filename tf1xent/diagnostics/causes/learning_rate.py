"""A learning rate at which the updates are as large as what they change."""

from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np

from tf1xent.diagnostics.finding import Cause, Finding, Trial
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.replaying.comparing import is_finite
from tf1xent.diagnostics.replaying.copies import gradient_names, norm
from tf1xent.diagnostics.replaying.step import History

# Norm of an update divided by the norm of what it changes. In trainings that go well it is about
# 1e-3, and in their first steps up to 0.1.
_LARGE_RATIO = 0.5
# A norm divided by that of the initial values, for a loss that is not finite, and for a model that
# stands still at a loss that is no fit.
_EXPLODED = 30.0
_THROWN_FAR = 5.0
_STEPS = 20
# A division by 0 gives inf with this part of the rate too.
_FAR_LESS = 1e-6
_FACTORS = (0.1, 0.01, 0.001)
_LAST = 10


class _Signs(NamedTuple):
    """What speaks for too high a rate.

    Attributes:
      variable: the one that it shows on most.
      growth: its norm, divided by that of its initial value.
      ratio: the largest of its update ratios; None where none was measured.
    """

    variable: str
    growth: float
    ratio: Optional[float]

    @property
    def are_huge(self) -> bool:
        """Tells whether they are beyond what any training that goes well shows."""
        return self.growth >= _EXPLODED or (self.ratio or 0.0) >= _LARGE_RATIO


def _probe(evidence: Evidence) -> Optional[Finding]:
    problem = evidence.problem
    if problem is None or not any(u.gradient is not None for u in evidence.program.updates):
        return None
    initial = evidence.copy.initial_values()
    signs = _signs(evidence, initial)
    if signs is None:
        return None
    if problem.kind == "grows" and evidence.history.same_batch:
        history = evidence.history
        steps = len(history.gradient_norms)
        trial = _first_that_helps(evidence, history, evidence.step.variables, steps)
        is_it = (trial is not None and trial.helped) or signs.are_huge
    else:
        is_it = _is_too_high(evidence, problem.kind, signs)
        may_be = problem.kind == "grows" or (problem.kind == "still" and _has_no_gradient(evidence))
        if not is_it and not may_be:
            return None
        again = _trained_anew(evidence, initial)
        is_it = is_it or (problem.kind == "still" and _dies(evidence, again))
        trial = None
        if again is not None and (is_it or problem.kind == "grows"):
            trial = _first_that_helps(evidence, again, initial, _STEPS)
        is_it = is_it or (trial is not None and trial.helped)
    return _finding(evidence, signs, trial) if is_it else None


def _has_no_gradient(evidence: Evidence) -> bool:
    """Tells whether most gradients are exactly 0, at a loss that is no fit."""
    names = gradient_names(evidence.program).values()
    zero = [evidence.recording.is_zero(name) for name in names]
    loss = evidence.recording.loss
    return sum(zero) * 2 >= len(zero) and loss is not None and bool(np.sum(loss) > 0)


def _is_too_high(evidence: Evidence, kind: str, signs: _Signs) -> bool:
    if evidence.own.exploded:
        return signs.growth >= _EXPLODED or _is_finite_with_less(evidence)
    ratio = 0.0 if signs.ratio is None else signs.ratio
    if kind == "grows":
        return signs.growth >= _THROWN_FAR or ratio >= _LARGE_RATIO
    if kind == "still":
        loss = evidence.recording.loss
        moved_far = signs.growth >= _THROWN_FAR or ratio >= _LARGE_RATIO
        return moved_far and loss is not None and bool(np.sum(loss) > 0)
    if kind in ("loss", "gradient", "parameters", "error"):
        return signs.growth >= _EXPLODED or (ratio >= _LARGE_RATIO and _grew(evidence.history))
    return False


def _is_finite_with_less(evidence: Evidence) -> bool:
    """Tells whether an update that overflows does not with a far smaller rate."""
    after = evidence.copy.steps(evidence.step, 1, _FAR_LESS).variables
    return bool(after) and all(is_finite(after[name]) for name in evidence.own.exploded)


def _dies(evidence: Evidence, again: Optional[History]) -> bool:
    """Tells whether a model that learned at first stands still after a few steps."""
    if again is None:
        return False
    counts = [again.zero_gradients.get(name, 0) for name in evidence.program.trainable]
    died = [0 < count < len(again.gradient_norms) for count in counts]
    return sum(died) * 2 >= len(died)


def _grew(history: History) -> bool:
    """Tells whether the loss or the gradients have grown before they stopped being finite."""
    for values in (history.losses, history.gradient_norms):
        finite = values[np.isfinite(values)]
        if len(finite) > 1 and finite[-_LAST:].max() > 10 * max(float(np.min(finite)), 1e-30):
            return True
    return False


def _signs(evidence: Evidence, initial: Dict[str, np.ndarray]) -> Optional[_Signs]:
    """Returns the signs on the weights of layers; on all variables of a model that has none."""
    values = evidence.step.variables
    names = [name for name in evidence.program.trainable if name in values]
    names = [n for n in names if values[n].ndim > 1] or names
    found = [
        _Signs(
            name,
            _growth(values[name], initial.get(name), evidence.history.norms.get(name)),
            _largest(evidence.history.update_ratios.get(name)),
        )
        for name in names
    ]
    return max(found, key=lambda s: s.growth * (1 + (s.ratio or 0.0)), default=None)


def _growth(value: np.ndarray, initial: Optional[np.ndarray], norms: Optional[np.ndarray]) -> float:
    # An initial value may be 0, or be no reference: then what an initializer would give.
    usual = float(np.sqrt(value.size / max(1, value.shape[0] if value.ndim else 1)))
    references = [usual]
    if initial is not None:
        references.append(norm(initial))
    if norms is not None and len(norms):
        references.append(float(norms[0]))
    reference = max(r for r in references if np.isfinite(r))
    now = [norm(value), *(norms[-_LAST:] if norms is not None else [])]
    finite = [float(n) for n in now if np.isfinite(n)]
    return max(finite) / reference if finite else 1.0


def _largest(ratios: Optional[np.ndarray]) -> Optional[float]:
    if ratios is None or not len(ratios):
        return None
    finite = ratios[np.isfinite(ratios)]
    return float(finite.max()) if len(finite) else None


def _trained_anew(evidence: Evidence, initial: Dict[str, np.ndarray]) -> Optional[History]:
    """Trains for a few steps on the batch, from the initial values; None if that cannot begin."""
    if not initial or not evidence.copy.rates(evidence.step):
        return None
    step = evidence.step._replace(variables={**evidence.step.variables, **initial})
    history = evidence.copy.steps(step, _STEPS).history
    return history if len(history.losses) and np.isfinite(history.losses[0]) else None


def _first_that_helps(
    evidence: Evidence, before: History, start: Dict[str, np.ndarray], steps: int
) -> Optional[Trial]:
    """Trains with lower rates, until one makes the loss fall where the program's own does not."""
    step = evidence.step._replace(variables={**evidence.step.variables, **start})
    rate = _rate(evidence)
    trial = None
    for factor in _factors(before):
        after = evidence.copy.steps(step, steps, factor)
        losses = after.history.losses
        if after.error is not None or not len(losses):
            return None
        helped = bool(np.isfinite(losses).all() and losses[-1] < losses[0])
        helped = helped and not before.losses[-1] <= losses[-1]
        trial = Trial(
            f"{steps} steps on this batch with a learning rate of {rate * factor:.3g} instead of "
            f"{rate:.3g}",
            _course(before.losses),
            _course(losses),
            helped,
        )
        if helped:
            break
    return trial


def _factors(history: History) -> List[float]:
    """Returns by what to multiply the rate; the last makes the first update a usual one."""
    first = [ratios[0] for ratios in history.update_ratios.values() if len(ratios)]
    largest = max((r for r in first if np.isfinite(r)), default=0.0)
    factors = list(_FACTORS)
    if largest * factors[-1] > _LARGE_RATIO:
        factors.append(float(10.0 ** -np.ceil(np.log10(largest / 0.01))))
    return factors


def _course(losses: np.ndarray) -> str:
    return f"the loss goes from {losses[0]:.4g} to {losses[-1]:.4g}"


def _rate(evidence: Evidence) -> float:
    rates = evidence.copy.rates(evidence.step).values()
    return max((float(np.max(rate)) for rate in rates), default=float("nan"))


def _finding(evidence: Evidence, signs: _Signs, trial: Optional[Trial]) -> Finding:
    program, history = evidence.program, evidence.history
    rate = _rate(evidence)
    parts = [f"The learning rate is {rate:.3g}."]
    if signs.ratio is not None:
        parts.append(
            f"One update has changed `{signs.variable}` by {signs.ratio:.3g} times its norm, where "
            "about 0.001 is usual."
        )
    if signs.growth > 2:
        parts.append(f"`{signs.variable}` is {signs.growth:.3g} times as large as at the start.")
    if evidence.own.exploded:
        parts.append(f"The update makes `{evidence.own.exploded[0]}` infinite or NaN.")
    if len(history.losses) > 1:
        parts.append(f"The last losses are {_numbers(history.losses)}.")
    numbers: Dict[str, Any] = {
        "rate": rate,
        "update_ratio": signs.ratio,
        "growth": signs.growth,
        "losses": _listed(history.losses),
        "gradient_norms": _listed(history.gradient_norms),
        "update_ratios": _listed(history.update_ratios.get(signs.variable, ())),
    }
    remedy = LEARNING_RATE.remedy
    if trial is not None and trial.helped:
        remedy = f"Lower the learning rate; tried: {trial.change}."
    op = evidence.op(signs.variable)
    line = _line_of_optimizer(program, signs.variable)
    return Finding(
        LEARNING_RATE.name,
        " ".join(parts),
        signs.variable,
        None if op is None else op.type,
        line,
        None,
        numbers,
        remedy,
        trial,
    )


def _line_of_optimizer(program: Program, variable: str) -> Optional[str]:
    ops = [u.op.name for u in program.updates if u.gradient is not None and u.variable == variable]
    return program.line_of(ops[0]) if ops else None


def _listed(values: Any) -> List[float]:
    return [float(value) for value in values[-_LAST:]]


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in values[-4:])


LEARNING_RATE = Cause(
    "learning rate",
    "The updates are as large as the parameters: each step throws them further off.",
    "Lower the learning rate to a tenth, or warm it up; clip the gradients by their global norm.",
    _probe,
)
