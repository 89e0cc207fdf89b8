"""tools/diagnostics: a run of each cause, healthy ones, counts and tables of made-up runs."""

import json
import os
import subprocess
import sys

import pytest

from tests import ROOT

TOOL = ROOT / "tools" / "diagnostics"
if not TOOL.exists():
    pytest.skip("tools/ is not in this tree", allow_module_level=True)
sys.path.insert(0, str(TOOL.parent))

from diagnostics import __main__ as command  # noqa: E402
from diagnostics import faults, plans, report, runs  # noqa: E402
from diagnostics.names import CAUSES, CLEAN, MODELS  # noqa: E402

TOOLS = {tool: [None, None, False, ""] for tool in report.TOOLS}


# --- Real runs ------------------------------------------------------------------------------------


def wrong(cause, model, seed, side_by_side=False):
    """Makes a run; returns what is wrong with its answer, or None."""
    made = runs.make(cause, model, seed, side_by_side)
    assert made is not None
    run = json.loads(made.line())
    return None if report.is_right(run) else report.line_of(run) + run["failed"]


@pytest.mark.parametrize("cause", ["inputs not finite", "log of 0", "0/0"])
def test_the_cause_is_named(cause):
    assert wrong(cause, "MLP", 0) is None


@pytest.mark.parametrize("seed", [0, 1, pytest.param(2, marks=pytest.mark.lengthy)])
def test_healthy_trainings_raise_no_alarm(seed):
    assert wrong(CLEAN, MODELS[seed], seed) is None


# Of the others it depends on the time that steps take when they are seen: on a busy machine late.
SEEN_AT_ONCE = [
    cause
    for cause in CAUSES
    if cause not in ("learning rate", "float32 collapse", "parameters do not change")
]


@pytest.mark.exhaustive
@pytest.mark.parametrize("cause", SEEN_AT_ONCE)
def test_a_fault_of_each_cause(cause):
    assert wrong(cause, "CNN" if cause == "NaN hidden" else "MLP", 1) is None


def test_tensorflows_tools_see_the_same_run():
    run = runs.make("parameters not finite", "MLP", 0, True)
    assert run.symptom in ("loss", "parameters")
    assert run.rivals["add_check_numerics_ops"][0] == 1
    step, _, found, refused = run.rivals["enable_check_numerics"]
    assert (step == 1 and not refused) or (step is None and refused)


# --- The tables of faults -------------------------------------------------------------------------


def test_every_cause_can_be_planted_in_every_model():
    for cause in CAUSES:
        assert set(faults.of_cause(cause)) == set(MODELS), cause


def test_faults_have_names_of_their_own_and_causes_of_the_library():
    from tf1xent import diagnostics

    assert list(CAUSES) == sorted({c.name for c in diagnostics.CAUSES}, key=CAUSES.index)
    names = [(fault.cause, fault.name) for fault in faults.FAULTS]
    assert len(set(names)) == len(names)
    assert {fault.cause for fault in faults.FAULTS} == set(CAUSES)
    assert all(fault.also in ("", *CAUSES) for fault in faults.FAULTS)


def test_seeds_make_different_runs_and_the_same_seed_the_same():
    drawn = [plans.draw("0/0", "MLP", seed)[0] for seed in range(20)]
    assert len(set(drawn)) == 20
    assert drawn == [plans.draw("0/0", "MLP", seed)[0] for seed in range(20)]


# --- The command ----------------------------------------------------------------------------------


def made_up(cause, answer, seed, fault="a fault", symptom="loss", tensorflow="2.21.0", **said):
    plan = {name: "" for name in plans.Plan._fields}
    plan.update(cause=cause, fault=fault, model="MLP", seed=seed, driver="session", patch=False)
    run = runs.Run(tensorflow, plan, 1.0, symptom, 3, "", answer, rivals={**TOOLS, **said})
    return json.loads(run.line())


def test_counts():
    found = [made_up("log of 0", "log of 0", 0, NanTensorHook=[3, "x", True, ""])]
    found += [made_up("log of 0", "0/0", 1), made_up("log of 0", None, 2, symptom="")]
    found += [made_up(CLEAN, None, 0, symptom=""), made_up(CLEAN, "0/0", 1, symptom="")]
    counts = report.summarise(found)["2.21.0"]
    assert counts["confusion"]["log of 0"] == {"log of 0": 1, "0/0": 1}
    assert counts["without a symptom"] == {"a fault": 1}
    text = report.to_markdown(report.summarise(found))
    assert "Causes named rightly: **1 of 2 (50.0 %)**" in text
    assert "Healthy trainings: 1 alarms in 2." in text
    assert "| 5 log of 0 |  |  |  |  | **1** |  | 1 |" in text
    assert "| log of 0 | a fault | 2 |  | 1 / 0 | 1 / 1 | 0 / 0 | 0 / 0 | 0 / 0 |" in text


def test_a_torn_line_is_made_again(tmp_path):
    path = tmp_path / "runs.jsonl"
    line = json.dumps(made_up("0/0", "0/0", 4))
    path.write_text(line + "\n" + line[:50], encoding="utf-8")
    assert list(report.read([path])) == [("2.21.0", "0/0", "MLP", 4)]


def test_runs_that_are_asked_for():
    options = command.parse("--seeds 2 --clean 3 --only 0/0,none --models MLP,CNN".split())
    assert command.keys_of(options) == [
        ("0/0", "MLP", 0),
        ("0/0", "CNN", 0),
        (CLEAN, "MLP", 0),
        (CLEAN, "CNN", 1),
        ("0/0", "MLP", 1),
        ("0/0", "CNN", 1),
        (CLEAN, "MLP", 2),
    ]


@pytest.mark.parametrize("wrong_one", ["--only bad-luck", "--models RNN"])
def test_refused_options(wrong_one, capsys):
    with pytest.raises(SystemExit):
        command.parse(wrong_one.split())
    assert wrong_one.split()[0] + ": must be among" in capsys.readouterr().err


def test_published_tables_are_those_of_the_published_counts():
    results = json.loads((TOOL / "results.json").read_text(encoding="utf-8"))
    assert report.to_markdown(results) == (TOOL / "RESULTS.md").read_text(encoding="utf-8")


def test_help_needs_no_tensorflow():
    program = (
        "import runpy, sys; sys.argv = ['x', '--help']; runpy.run_path({!r}, None, '__main__')"
    )
    code = f"{program.format(str(TOOL))}"
    checked = (
        "import atexit, sys\natexit.register(lambda: print('tensorflow' in sys.modules))\n" + code
    )
    done = subprocess.run(
        [sys.executable, "-c", checked], stdout=subprocess.PIPE, env=os.environ.copy()
    )
    assert done.stdout.decode().rstrip().endswith("False")
