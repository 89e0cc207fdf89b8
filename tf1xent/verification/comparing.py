"""From two measurements to a report; and from two functions of this process."""

import functools
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from tf1xent._modes import DTYPES, LABEL_KINDS
from tf1xent.verification import formulas, recognition
from tf1xent.verification.batches import Batch, Setting, make_batches
from tf1xent.verification.findings import DIFFERENT
from tf1xent.verification.judging import judge
from tf1xent.verification.kinds import KINDS, parse_input
from tf1xent.verification.measurement import Measurement, Result
from tf1xent.verification.processes import (
    Side,
    check_target,
    each_side,
    measured_in_processes,
)
from tf1xent.verification.report import Report, SideFacts

__all__ = ["compare", "compare_functions"]


def setting_of(
    *,
    labels: str = "sparse",
    num_classes: int = 5,
    batch_size: int = 6,
    time_steps: Optional[int] = None,
    seed: int = 0,
    dtypes: Sequence[str] = DTYPES,
    inputs: Sequence[str] = (),
    without: Sequence[str] = (),
) -> Setting:
    """Returns a checked `Setting`; the arguments are those of `compare`, in the same words.

    Raises:
      ValueError: an argument is out of its range.
    """
    if labels not in LABEL_KINDS:
        raise ValueError(f"`labels` must be one of {', '.join(LABEL_KINDS)}, got {labels!r}.")
    for name, number, least in (
        ("num_classes", num_classes, 2),
        ("batch_size", batch_size, 1),
        ("time_steps", 1 if time_steps is None else time_steps, 1),
    ):
        if number < least:
            raise ValueError(f"`{name}` must be at least {least}, got {number}.")
    wrong = [dtype for dtype in dtypes if dtype not in DTYPES]
    if wrong or not dtypes:
        raise ValueError(f"`dtypes` must be of {', '.join(DTYPES)}, got {list(dtypes)}.")
    setting = Setting(
        labels,
        num_classes,
        batch_size,
        time_steps,
        seed,
        tuple(dict.fromkeys(dtypes)),
        tuple(parse_input(text) for text in inputs),
        tuple(without),
    )
    there = {batch.name for batch in batches_of(setting._replace(without=()))}
    unknown = [name for name in without if name not in there]
    if unknown:
        listed = "; ".join(sorted(there))
        raise ValueError(f"`without` must name batches, got {unknown[0]!r}. There are: {listed}.")
    return setting


@functools.lru_cache(maxsize=16)
def batches_of(setting: Setting) -> List[Batch]:
    """The batches of a setting, made once."""
    return make_batches(setting)


@functools.lru_cache(maxsize=256)
def _exact(
    setting: Setting, formula: formulas.Formula, connected: Tuple[str, ...]
) -> Dict[Tuple[str, str], Result]:
    """The exact results of a formula on all batches; 60 digits take their time."""
    return {b.key: formulas.exact(formula, b, connected) for b in batches_of(setting)}


def compared(
    before: Measurement, after: Measurement, setting: Setting, strict: bool = False
) -> Report:
    """Judges two measurements of the same setting.

    Args:
      before, after: of both sides.
      setting: that of the batches.
      strict: as of `Report`.

    Returns:
      A `Report`.

    Raises:
      ValueError: a side cannot be built with any dtype.
    """
    for side, measured in (("BEFORE", before), ("AFTER", after)):
        if not measured.precisions:
            why = next(iter(measured.refusals.values()))
            raise ValueError(f"{side}, {measured.name}, cannot be built: {why}.")
    batches = batches_of(setting)
    _check_compared(before, after, setting)
    formula, exact, reference = _judged_by(before, setting)
    findings = judge(before, after, batches, exact)
    notes = _notes(before, after, formula)
    if any(finding.verdict == DIFFERENT for finding in findings):
        other = next(recognition.recognise(after, batches), None)
        if other is not None and other != formula:
            epsilon = f", with log(p + {other.epsilon:.0e})" if other.epsilon else ""
            notes.append(f"AFTER computes: {other}{epsilon}.")
    facts = [
        SideFacts(m.name, m.versions, m.parameters, m.precisions, m.refusals)
        for m in (before, after)
    ]
    text = None if formula is None else str(formula)
    return Report(facts[0], facts[1], text, reference, findings, notes, strict)


def _judged_by(
    before: Measurement, setting: Setting
) -> Tuple[Optional[formulas.Formula], formulas.Exact, str]:
    """Returns BEFORE's formula, its exact results, and in words what both sides are judged by."""
    if not formulas.is_installed():
        return None, {}, "BEFORE; for exact results: pip install tf1xent[verify]"
    batches = batches_of(setting)
    reference = "BEFORE: it computes no formula that is known here"
    for formula in recognition.recognise(before, batches):
        if formula.mistake:
            return formula, {}, f"BEFORE, by mistake perhaps: {formula}"
        named = formula._replace(epsilon=0.0)
        exact = _exact(setting, named, _connected(before))
        if recognition.has_gradients(before, batches, exact, formula):
            return formula, exact, f"exact results ({formulas.DIGITS} digits) of: {named}"
        reference = f"BEFORE: it has the values, but not the gradients, of: {named}"
    return None, {}, reference


def _check_compared(before: Measurement, after: Measurement, setting: Setting) -> None:
    """Raises a ValueError for what would make a comparison say nothing."""
    for side, measured in (("BEFORE", before), ("AFTER", after)):
        results = list(measured.results.values())
        if all(result.value is None for result in results):
            raise ValueError(f"{side}, {measured.name}, raises on every batch: {results[0].error}")
        if measured.is_random:
            raise ValueError(
                f"{side}, {measured.name}, is random: two runs of one batch differ. Take out what "
                "draws, such as dropout."
            )
    for said in setting.inputs:
        if said.name not in (*before.names, *after.names):
            raise ValueError(f"--input {said.name}={said.kind}: neither side has that parameter.")


def _connected(measured: Measurement) -> Tuple[str, ...]:
    """The kinds of inputs that a side's gradients reach."""
    reached = {kind for result in measured.results.values() for kind in result.gradients}
    return tuple(kind for kind in KINDS if kind in reached)


def _notes(
    before: Measurement, after: Measurement, formula: Optional[formulas.Formula]
) -> List[str]:
    """What the numbers mean, as far as graphs and errors tell."""
    notes = []
    if formula is not None and formula.epsilon:
        notes.append(f"BEFORE computes log(p + {formula.epsilon:.0e}) where it means log(p).")
    sides = (("BEFORE", before), ("AFTER", after))
    for dtype in before.precisions:
        for side, measured in sides:
            inside = measured.precisions.get(dtype, dtype)
            if inside != dtype:
                notes.append(f"{side} computes in {inside} where its inputs are {dtype}.")
    for side, measured in sides:
        for what in ("gradient", "product"):
            reasons = getattr(measured, f"why_no_{what}").values()
            why = next((reason for reason in reasons if reason), None)
            if why and not (what == "product" and any(measured.why_no_gradient.values())):
                called = "gradient" if what == "gradient" else "Hessian-vector product"
                notes.append(f"{side} has no {called}: {why.rstrip('.')}.")
    for dtype, why in before.refusals.items():
        notes.append(f"BEFORE does not take {dtype}, which is left out: {why.rstrip('.')}.")
    return notes


def compare(
    before: str,
    after: str,
    *,
    before_python: Optional[str] = None,
    after_python: Optional[str] = None,
    before_loss: Optional[str] = None,
    after_loss: Optional[str] = None,
    patched: Optional[str] = None,
    compat: Optional[str] = None,
    strict: bool = False,
    **setting: Any,
) -> Report:
    """Compares two losses, each in a process of its own; `tf1xent verify` from a program.

    Use it to prove that a migrated loss is the old one, perhaps across two TensorFlows. This
    process needs no TensorFlow, and runs none of the user's code. See also `compare_functions`.

    Args:
      before, after: `module:function` or `file.py:function`, a function that builds a loss of named
        parameters; or the path of a .meta, .pb, .pbtxt or SavedModel.
      before_python, after_python: the interpreters. Default: this one. They need TensorFlow; of
        tf1xent they take this one.
      before_loss, after_loss: the names of the losses of graphs.
      patched: "before", "after" or "both": where `tf1xent.patch()` is in force.
      compat: the same for `tf1xent.running.compat`, which gives a program written for
        TensorFlow 1.x `tensorflow.compat.v1`.
      strict: also fail where BEFORE is wrong, or AFTER less accurate in small entries.
      **setting: `labels` ("sparse", "one-hot", "soft", "multi-hot": what labels, targets and y
        are), `num_classes` (5), `batch_size` (6), `time_steps` (None; where rows are [B, T]),
        `seed` (0), `dtypes` (float64 and float32), `inputs` ("[SIDE.]NAME=KIND[:SHAPE]" each),
        `without` (names of batches).

    Returns:
      A `Report`; `equal` says whether they compute the same.

    Raises:
      ValueError: a side cannot be started, loaded or built, or what an input is cannot be told.
      FileNotFoundError: a file is not there.

    Example:

    >>> from tf1xent.verification import compare
    >>> sparse = "tensorflow.compat.v1:nn.sparse_softmax_cross_entropy_with_logits"
    >>> compare(sparse, sparse, patched="after", dtypes=["float32"]).equal
    True
    """
    sides = {
        "before": Side(before, before_python, before_loss),
        "after": Side(after, after_python, after_loss),
    }
    for name, side in sides.items():
        check_target(side.target)
        sides[name] = side._replace(
            patched=name in each_side(patched), compat=name in each_side(compat)
        )
    chosen = setting_of(**setting)
    measured = measured_in_processes(sides, setting, batches_of(chosen))
    return compared(measured["before"], measured["after"], chosen, strict)


def compare_functions(
    before: Callable[..., Any],
    after: Callable[..., Any],
    *,
    strict: bool = False,
    **setting: Any,
) -> Report:
    """Compares two functions in this process, which has TensorFlow.

    Use it in tests, for many pairs: a pair takes a fraction of a second. `compare` gives each side
    a process of its own, and takes another Python. Both are built in graphs of their own.

    Args:
      before: a function that builds a loss of named parameters: `logits`, `labels`, `mask`, ...
        (`kinds.KINDS` lists the names), and returns a scalar, or a tensor of losses by row.
      after: another; its parameters may have other names and another order.
      strict: also fail where BEFORE is wrong, or AFTER less accurate in small entries.
      **setting: `labels`, `num_classes`, `batch_size`, `time_steps`, `seed`, `dtypes`, `inputs`,
        `without`, as of `compare`.

    Returns:
      A `Report`; `equal` says whether they compute the same.

    Raises:
      ValueError: what a parameter is cannot be told, or a side cannot be built.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.verification import compare_functions
    >>> def by_hand(y, z):
    ...     return -tf.reduce_mean(tf.reduce_sum(y * tf.nn.log_softmax(z), axis=1))
    >>> def by_name(logits, labels):
    ...     losses = tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)
    ...     return tf.reduce_sum(losses)
    >>> report = compare_functions(by_hand, by_name, labels="one-hot", dtypes=["float64"])
    >>> report.equal, report.formula
    (False, 'mean over the rows, softmax cross-entropy with one-hot labels')
    """
    from tf1xent.verification.measuring import measure
    from tf1xent.verification.programs import FunctionProgram

    chosen = setting_of(**setting)
    batches = batches_of(chosen)
    measured = []
    for side, function in (("before", before), ("after", after)):
        name = getattr(function, "__name__", repr(function))
        program = FunctionProgram(function, name, chosen, side)
        measured.append(measure(program, batches, chosen.time_steps))
    return compared(measured[0], measured[1], chosen, strict)
