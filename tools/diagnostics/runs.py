"""One run: a planted fault, what the program shows, what each tool says."""

import json
import time
import traceback
from typing import Any, Dict, NamedTuple, Optional, Tuple

from diagnostics import drivers, plans, rivals, running
from diagnostics.names import CLEAN, Key
from diagnostics.recipes import Recipe
from tf1xent._tf import version

# A fault that shows nothing is made stronger, at most so often, each time by this factor.
_TIMES, _FACTOR = 4, 5.0


class Run(NamedTuple):
    """The record of a run, a line of the file of runs.

    Attributes:
      tensorflow: the version.
      plan: the choices, by name.
      strength: how much stronger the fault was made, so that it shows.
      symptom: what the program itself shows; empty where that is nothing.
      step: when.
      error: the message with which the program ended.
      answer: tf1xent's cause; None where it raised no alarm.
      tensor, what, others, judged: of it.
      found_place: whether it names an op at which the fault shows.
      rivals: by name of a tool, (step or None, op or None, whether that is the place, refused).
      seconds: of tf1xent's run and of all others.
      failed: the traceback, where tf1xent or this program failed.
    """

    tensorflow: str
    plan: Dict[str, Any]
    strength: float
    symptom: str
    step: Optional[int]
    error: str
    answer: Optional[str] = None
    tensor: Optional[str] = None
    what: str = ""
    others: Tuple[str, ...] = ()
    judged: Optional[int] = None
    found_place: bool = False
    rivals: Dict[str, Any] = {}
    seconds: Tuple[float, float] = (0.0, 0.0)
    failed: str = ""

    @property
    def key(self) -> Key:
        return self.plan["cause"], self.plan["model"], self.plan["seed"]

    def line(self) -> str:
        return json.dumps(self._asdict(), default=float)  # NumPy's numbers


def from_line(line: str) -> Run:
    """Returns the run of a line."""
    return Run(**json.loads(line))


def make(cause: str, model: str, seed: int, with_rivals: bool) -> Optional[Run]:
    """Makes a run, or returns None where the model can have no fault of this cause."""
    drawn = plans.draw(cause, model, seed)
    if drawn is None:
        return None
    plan, fault = drawn
    start = time.process_time()
    for i in range(_TIMES):
        recipe = Recipe(plan, _FACTOR**i)
        fault.plant(recipe)
        symptom = running.run_plain(recipe)
        if cause == CLEAN or (symptom.kind and fault.shows in ("", symptom.kind)):
            break
    if fault.shows and symptom.kind != fault.shows:
        symptom = symptom._replace(kind="")
    said: Dict[str, rivals.Said] = {}
    if with_rivals:
        said.update(rivals.of_losses(symptom))
        said["add_check_numerics_ops"] = rivals.check_numerics_ops(recipe)
        said["enable_check_numerics"] = rivals.enable_check_numerics(recipe)
    middle = time.process_time()
    run = Run(version(), dict(plan._asdict()), recipe.strength, *symptom[:3])
    try:
        answer = drivers.ask(recipe)
        run = run._replace(
            answer=answer.cause,
            tensor=answer.tensor,
            what=answer.what,
            others=tuple(answer.others),
            judged=answer.step,
            found_place=recipe.is_at_place(answer.tensor),
        )
    except Exception:  # an error of the tool is an answer that is wrong
        run = run._replace(failed=traceback.format_exc()[-3000:], answer="failed")
    end = time.process_time()
    places = {n: [*s[:2], recipe.is_at_place(s.op), s.refused] for n, s in said.items()}
    return run._replace(rivals=places, seconds=(round(end - middle, 2), round(middle - start, 2)))
