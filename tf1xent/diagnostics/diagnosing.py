"""Finds the cause of a step that went wrong."""

from typing import Any, Mapping, Optional, Sequence

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Session, Tensor
from tf1xent.diagnostics.arguments import (
    data_of_step,
    element_of,
    feeds_of,
    loss_of,
    read_sources,
    read_variables,
    runs_update,
    session_of,
    variables_of,
)
from tf1xent.diagnostics.causes import CAUSES
from tf1xent.diagnostics.causes.labels import LABELS, finding_of_message
from tf1xent.diagnostics.diagnosis import Diagnosis
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.judging.problems import Problem, stands_still
from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.replaying.comparing import how_it_ran
from tf1xent.diagnostics.replaying.copies import Copy, gradient_names, total
from tf1xent.diagnostics.replaying.replay import Replay
from tf1xent.diagnostics.replaying.step import History, Step, no_history

__all__ = ["diagnose"]


def diagnose(
    session: Session,
    loss: Tensor,
    feed_dict: Optional[Mapping[Any, Any]] = None,
    *,
    train_op: Any = None,
    fetches: Sequence[Any] = (),
    variables: Optional[Mapping[Any, np.ndarray]] = None,
    steps: int = 10,
) -> Diagnosis:
    """Says why a loss is inf or NaN, or does not move any more.

    Use it where you have a session and the feed_dict of a step that went wrong, as in a notebook;
    in a training loop `LossDoctorHook` keeps both for you. The step runs again in a copy of the
    graph and of the variables: the session and its graph stay as they are, no op is added, no
    variable changes, and the graph may be finalized. What is not fed is read from the session's
    own input pipeline: one batch of it is used up. Random ops, such as dropout, draw anew.

    After one bad step all parameters may be NaN, and then say nothing about its cause: pass their
    values from before it as `variables`, as from a checkpoint.

    If loss and gradients are finite, it trains the copy for some steps on the batch, to see whether
    the parameters change.

    Args:
      session: a `tf.Session` or `MonitoredSession` in which the model is trained.
      loss: the tensor that is minimised, or its name. Of several entries, the sum counts.
      feed_dict: that of the step: keys as `session.run` takes them.
      train_op: what a step of training runs. Default: all ops of optimizers in the graph.
      fetches: what the step fetches, if you know: grappler may compute other numbers for other
        fetches. If none of them runs `train_op`, that is named as the reason why nothing changes.
      variables: values to take instead of those in the session, by variable or by name.
      steps: how many steps to train the copy, if nothing is wrong with the first.

    Returns:
      A `Diagnosis`. Its `problem` is None, and no cause is given, if nothing is wrong.

    Raises:
      ValueError: an argument is not of the session's graph or of another shape; a placeholder is
        not fed; the input pipeline is at its end; a variable has no value.
      TypeError: an argument is of another type.

    Example:

    >>> import numpy as np
    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.diagnostics import diagnose
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     x = tf.placeholder(tf.float32, [None, 2], name="x")
    ...     loss = tf.reduce_mean((x @ tf.get_variable("w", [2, 1])) ** 2)
    ...     train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    ...     session.run(tf.global_variables_initializer())
    ...     found = diagnose(session, loss, {x: [[1.0, 2.0], [np.nan, 0.0]]}, train_op=train)
    >>> found.problem, found.cause, found.findings[0].row
    ('the loss is nan', 'inputs not finite', 1)
    """
    caller = "diagnose"
    session = session_of(session, caller)
    graph = session.graph
    tensor = loss_of(graph, loss, caller)
    if train_op is not None:
        train_op = element_of(graph, train_op, "train_op", caller, ops=True)
    fetched = [element_of(graph, fetch, "fetches", caller, ops=True) for fetch in _listed(fetches)]
    if steps < 1:
        raise ValueError(f"diagnose: `steps` must be at least 1, got {steps}. Raise it.")
    program = Program(graph, tensor, train_op)
    feeds = feeds_of(graph, feed_dict, caller)
    given = variables_of(program, variables, caller)
    values = read_variables(session, program, list(given), caller)
    read = read_sources(session, program, feeds, caller)
    step = Step(None, {**feeds, **read}, {**values, **given})
    names = [fetch.name for fetch in fetched if not runs_update(program, fetch)]
    if fetched and train_op is not None:
        step = step._replace(is_training=len(names) < len(fetched))
    found = diagnose_alone(program, step, names, steps)
    if read:
        sources = ", ".join(f"`{name}`" for name in sorted(read))
        found = found._replace(how=f"{found.how}; one batch was read from the pipeline: {sources}")
    return found


def diagnose_alone(
    program: Program, step: Step, fetches: Sequence[str] = (), steps: int = 10
) -> Diagnosis:
    """Finds the cause of a step of which nobody has seen the loss, nor the steps before.

    Args:
      program: a `Program`.
      step: the `Step`.
      fetches: names of what else the step fetches.
      steps: how many steps to train a copy, if nothing is wrong with the first.

    Returns:
      A `Diagnosis`; one without findings if nothing is wrong.
    """
    copy = Copy(program)
    try:
        step, history = _looked_at(copy, step, fetches, steps)
        return _diagnosis(program, step, history, None, copy)
    finally:
        copy.close()


def diagnose_step(
    program: Program,
    step: Step,
    history: Optional[History] = None,
    problem: Optional[str] = None,
) -> Diagnosis:
    """Finds the cause of one step; what `diagnose` and the hooks share.

    Args:
      program: a `Program`.
      step: the `Step`, with the values of the variables from before its update.
      history: the `History` of the steps before.
      problem: what the caller has seen, where it has seen something that a step run again need not
        show.

    Returns:
      A `Diagnosis`; one without findings if nothing is wrong with the step.
    """
    copy = Copy(program)
    try:
        return _diagnosis(program, step, history or no_history(), problem, copy)
    finally:
        copy.close()


def _diagnosis(
    program: Program, step: Step, history: History, problem: Optional[str], copy: Copy
) -> Diagnosis:
    lost = [tensor.name for tensor in data_of_step(program) if tensor.name not in step.feeds]
    if lost:
        return _without_data(program, step, history, problem, lost)
    with Replay(program) as replay:
        evidence = Evidence(program, step, history, replay, copy)
        seen = evidence.problem
        # Wrong labels may give a finite loss, and no symptom.
        causes = (LABELS,) if seen is None else CAUSES
        found = [cause.probe(evidence) for cause in causes]
        how = how_it_ran(evidence.own, evidence.recording, step.loss)
        reproduced = seen is not None and _shows(evidence, seen)
    text = problem if seen is None else seen.text
    findings = [finding for finding in found if finding is not None]
    if findings and text is None:
        text = "the loss is finite, but it is not that of the labels"
    return Diagnosis(text, step.number, findings, how, reproduced)


def _without_data(
    program: Program, step: Step, history: History, problem: Optional[str], lost: Sequence[str]
) -> Diagnosis:
    """Judges a step that cannot run again by what the program has seen."""
    findings = []
    text = problem
    if step.error is not None:
        text = f"the step ends with an error: {step.error}"
        finding = finding_of_message(step.error)
        findings = [] if finding is None else [finding]
    elif step.loss is not None and not np.isfinite(step.loss):
        text = f"the loss is {step.loss}"
    text = text or stands_still(program, history)
    how = f"not at all, since its data are lost: {', '.join(f'`{name}`' for name in lost[:4])}"
    return Diagnosis(text, step.number, findings, how, False)


def _looked_at(copy: Copy, step: Step, fetches: Sequence[str], steps: int) -> Any:
    """Runs the step as the program does; returns it with its loss, and the `History` after it."""
    program = copy.program
    names = [program.loss.name, *gradient_names(program).values(), *fetches]
    try:
        loss = total(copy.run(step, names)[0])
    except tf.errors.OpError as error:
        return step._replace(error=_tf.error_line(error)), no_history()
    history = no_history()
    if np.isfinite(loss) and program.has_optimizer:
        history = copy.steps(step, steps).history
    return step._replace(loss=loss), history


def _shows(evidence: Evidence, problem: Problem) -> bool:
    """Tells whether the step, run again, shows the problem."""
    if problem.kind == "error":
        return evidence.recording.error is not None
    if problem.kind in ("loss", "gradient"):
        return bool(evidence.origins)
    return True


def _listed(fetches: Any) -> Any:
    return list(fetches) if isinstance(fetches, (list, tuple)) else [fetches]
