"""A script that logs to W&B and MLflow by itself: one run of each over all boxes, steps without a gap, variables that
are the user's left alone.
"""

from __future__ import annotations

import json

import pytest

from backprop_core.events.kinds import TrackerRun
from backprop_core.session.tracker_runs import TrackerRuns
from tests.backprop_cli.commandline import CommandLine
from tests.backprop_sinks import readers

SCRIPT = """
import sys, time
import mlflow, wandb
import backprop
class Counter:
    n = 0
    def state_dict(self): return {"n": self.n}
    def load_state_dict(self, state): self.n = state["n"]
counter = Counter()
wandb.init(project="p")
with mlflow.start_run(), backprop.timebox("%s", counter=counter) as box:
    for step in box.steps(int(sys.argv[1])):
        time.sleep(0.1)
        counter.n += 1
        wandb.log({"n": counter.n})
        mlflow.log_metric("n", counter.n, step=counter.n)
wandb.finish()
wandb.init(project="p").finish()
"""


def test_two_boxes_are_one_run_of_each_tracker(
    backprop: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second box goes on where the first was, every step is there once, and a further run of that process is a
    new one.
    """
    backprop.environment |= {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_TRACKING_URI": f"file://{backprop.folder}/mlruns",
    }
    script = backprop.script(SCRIPT % "6s")
    first = backprop("run", "train.py", "--run-id", "t", "--", "100")
    assert first.returncode == 0, first.stderr
    assert backprop.record("t")["status"] == "timeboxed", first.stderr
    script.write_text(SCRIPT % "10m")
    second = backprop("resume", "t", "-m", "10")
    assert backprop.record("t")["status"] == "completed", second.stderr
    runs = readers.wandb_runs(backprop.folder / "wandb")
    assert f"the script continues W&B run {runs[0]} and MLflow run " in second.stderr
    assert runs[:2] == [runs[0], runs[0]]
    assert len(runs) == 3
    assert runs[2] != runs[0]
    logged = [row["n"] for row in readers.wandb_history(backprop.folder / "wandb")]
    assert logged == list(range(1, 101))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    points = readers.mlflow_points(backprop.environment["MLFLOW_TRACKING_URI"], "0", "n")
    assert points == [(n, float(n)) for n in range(1, 101)]


def test_what_the_user_has_set_and_several_runs_are_left_alone(backprop: CommandLine) -> None:
    """A variable of the user's, `--no-tracker`, and a script that used a run for each fold: nothing is set."""
    backprop.script(
        "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith(('WANDB_', 'MLFLOW_'))}))"
    )
    backprop.environment = {
        k: v for k, v in backprop.environment.items() if not k.startswith(("WANDB_", "MLFLOW_"))
    }
    assert backprop("run", "train.py", "--run-id", "u").returncode == 0
    events = backprop.attempt_dir("u") / "events.jsonl"
    record = backprop.home / "runs" / "u" / "run.json"

    def resumed(runs: list[TrackerRun], *options: str, **environ: str) -> tuple[dict[str, str], str]:
        events.write_text("".join(json.dumps({"kind": run.kind, **run.facts()}) + "\n" for run in runs))
        record.write_text(record.read_text().replace('"completed"', '"failed"'))
        before, backprop.environment = backprop.environment, backprop.environment | environ
        ran = backprop("resume", "u", *options)
        backprop.environment = before
        return json.loads(ran.stdout), ran.stderr

    one = [TrackerRun("wandb", "abc"), TrackerRun("mlflow", "def")]
    set_by_us, said = resumed(one)
    assert set_by_us == {"WANDB_RUN_ID": "abc", "WANDB_RESUME": "allow", "MLFLOW_RUN_ID": "def"}
    assert "the script continues W&B run abc and MLflow run def (--no-tracker starts a new one)." in said
    assert resumed(one, WANDB_RUN_ID="mine")[0] == {"WANDB_RUN_ID": "mine", "MLFLOW_RUN_ID": "def"}
    assert resumed(one, "--no-tracker")[0] == {}
    folds = [*one, TrackerRun("wandb", "ghi")]
    assert resumed(folds, "--tracker")[0] == {"MLFLOW_RUN_ID": "def"}


def test_a_module_that_only_has_the_name_does_no_harm() -> None:
    """A folder of runs called `wandb`, or a tracker that is half imported, is asked and answers nothing."""
    import sys
    import types

    known = sys.modules.get("wandb")
    sys.modules["wandb"] = types.ModuleType("wandb")
    try:
        assert [run for run in TrackerRuns({}).new() if run.tracker == "wandb"] == []
    finally:
        if known is None:
            del sys.modules["wandb"]
        else:
            sys.modules["wandb"] = known
