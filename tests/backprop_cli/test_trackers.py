"""A script that logs to trackers by itself: one run of each over all boxes, steps without a gap, variables that
are the user's left alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backprop_core.events.kinds import TrackerRun
from backprop_core.session.tracker_runs import TrackerRuns
from tests.backprop_cli.commandline import CommandLine
from tests.backprop_sinks import readers
from tests.backprop_sinks.mlflow_server import mlflow_server
from tests.installed_apart import installed_apart

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
_ONLY_MLFLOW = """
import sys, time
import mlflow
import backprop
class Counter:
    n = 0
    def state_dict(self): return {"n": self.n}
    def load_state_dict(self, state): self.n = state["n"]
counter = Counter()
with mlflow.start_run(), backprop.timebox("%s", counter=counter) as box:
    for step in box.steps(int(sys.argv[1])):
        time.sleep(0.1)
        counter.n += 1
        mlflow.log_metric("n", counter.n, step=counter.n)
        box.log(n=counter.n)
"""


@pytest.mark.long
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


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_two_boxes_are_one_run_on_an_mlflow_server(backprop: CommandLine, tmp_path: Path) -> None:
    """With a real server: what the script logs by itself is one run over both boxes, and so is what the sink logs beside
    it, each without a gap or a step that comes twice.
    """
    with mlflow_server(tmp_path) as server:
        backprop.environment |= {"MLFLOW_TRACKING_URI": server}
        script = backprop.script(_ONLY_MLFLOW % "6s")
        first = backprop("run", "train.py", "--run-id", "t", "--sink", "mlflow:beside", "--", "100")
        assert backprop.record("t")["status"] == "timeboxed", first.stderr
        script.write_text(_ONLY_MLFLOW % "10m")
        second = backprop("resume", "t", "-m", "10")
        assert backprop.record("t")["status"] == "completed", second.stderr
        assert "the script continues MLflow run " in second.stderr
        steps = [(n, float(n)) for n in range(1, 101)]
        assert readers.mlflow_points(server, "0", "n") == steps
        beside = readers.mlflow_points(server, "1", "n")
        assert beside == sorted(set(beside))
        assert {step for step, _ in beside} <= set(range(1, 101))
        assert beside[-1] == (100, 100.0)


COMET = """
import sys, time
import comet_ml
import backprop
class Counter:
    n = 0
    def state_dict(self): return {"n": self.n}
    def load_state_dict(self, state): self.n = state["n"]
counter = Counter()
experiment = comet_ml.start(online=False, project_name="p")
with backprop.timebox("%s", counter=counter) as box:
    for step in box.steps(60):
        time.sleep(0.1)
        counter.n += 1
        experiment.log_metric("n", counter.n, step=counter.n)
experiment.end()
comet_ml.start(online=False, project_name="p").end()
"""


@pytest.fixture
def comet(backprop: CommandLine) -> Path:
    """Where the real Comet, offline, leaves its archives."""
    folder = backprop.folder / "comet"
    backprop.environment |= {
        "PYTHONPATH": installed_apart("comet_ml"),
        "COMET_OFFLINE_DIRECTORY": str(folder),
        "COMET_LOGGING_CONSOLE": "error",
    }
    return folder


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_no_box_writes_over_an_archive_of_comet(backprop: CommandLine, comet: Path) -> None:
    """Offline, Comet names an archive by its experiment's key, so each box has a key of its own: all archives are kept, and
    have every step once.
    """
    script = backprop.script(COMET % "3s")
    first = backprop("run", "train.py", "--run-id", "t")
    assert backprop.record("t")["status"] == "timeboxed", first.stderr
    script.write_text(COMET % "10m")
    second = backprop("resume", "t", "-m", "10")
    assert backprop.record("t")["status"] == "completed", second.stderr
    assert "the script continues" not in second.stderr
    archives = readers.comet_offline(comet)
    assert len({key for key, _ in archives}) == len(archives) == 3
    assert [point for _, points in archives for point in points] == [(n, n) for n in range(1, 61)]


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_comet_takes_the_key_that_a_resumed_box_is_told(backprop: CommandLine, comet: Path) -> None:
    """A script whose Comet experiment was seen in the first box begins with its key in the second."""
    backprop.script("import comet_ml; print(comet_ml.start(online=False, project_name='p').get_key())")
    assert backprop("run", "train.py", "--run-id", "k").returncode == 0
    run, key = TrackerRun("comet", "abcdef" * 6), "abcdef" * 6
    (backprop.attempt_dir("k") / "events.jsonl").write_text(
        json.dumps({"kind": run.kind, **run.facts()}) + "\n"
    )
    record = backprop.home / "runs" / "k" / "run.json"
    record.write_text(record.read_text().replace('"completed"', '"failed"'))
    resumed = backprop("resume", "k")
    assert f"the script continues Comet run {key} " in resumed.stderr
    assert key in resumed.stdout.split()


OTHERS = {
    "neptune": """
import neptune
run = neptune.init_run(mode="offline", capture_stdout=False, capture_stderr=False, capture_hardware_metrics=False)
def log(n): run["n"].append(float(n), step=n)
""",
    "clearml": """
from clearml import Task
Task.set_offline(True)
task = Task.init("p", "t", auto_connect_frameworks=False, auto_resource_monitoring=False)
def log(n): task.get_logger().report_scalar("n", "n", value=n, iteration=n)
""",
}


@pytest.mark.faults
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("tracker", OTHERS)
def test_other_trackers_do_no_harm(backprop: CommandLine, tracker: str) -> None:
    """Offline, where each process has a run of its own: the tracker's objects are no state of the script, nothing is said of
    them, and the second box logs in its own run until the training is complete.
    """
    backprop.environment |= {"PYTHONPATH": installed_apart(tracker), "HOME": str(backprop.folder)}
    text = OTHERS[tracker] + COUNTING.replace("counter.n += 1", "counter.n += 1; log(counter.n)")
    script = backprop.script(text % "3s")
    first = backprop("run", "train.py", "--run-id", "t")
    assert backprop.record("t")["status"] == "timeboxed", first.stderr
    script.write_text(text % "10m")
    second = backprop("resume", "t", "-m", "10")
    assert backprop.record("t")["status"] == "completed", second.stderr
    assert "cannot be kept" not in first.stderr + second.stderr
    assert "Traceback" not in first.stderr + second.stderr


COUNTING = """
import time
import backprop
class Counter:
    n = 0
    def state_dict(self): return {"n": self.n}
    def load_state_dict(self, state): self.n = state["n"]
counter = Counter()
with backprop.timebox("%s", counter=counter) as box:
    for step in box.steps(60):
        time.sleep(0.1)
        counter.n += 1
"""
AIM = """
import os, sys, time
from pathlib import Path
import aim
import backprop
class Counter:
    n = 0
    def state_dict(self): return {"n": self.n}
    def load_state_dict(self, state): self.n = state["n"]
counter = Counter()
kept = Path(os.environ["BACKPROP_RUN_DIR"], "aim-run")
run = aim.Run(run_hash=kept.read_text() if kept.exists() else None, system_tracking_interval=None)
kept.write_text(run.hash)
with backprop.timebox("%s", counter=counter) as box:
    for step in box.steps(60):
        time.sleep(0.1)
        counter.n += 1
        run.track(counter.n, name="n", step=counter.n)
run.close()
"""
AIMS_POINTS = """
import json, aim
print(json.dumps([sorted(metric.values.values_list()) for run_hash in aim.Repo(".").list_all_runs()
                  for metric in aim.Run(run_hash=run_hash, system_tracking_interval=None).metrics() if metric.name == "n"]))
"""


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_the_recipe_for_aim_makes_one_run(backprop: CommandLine) -> None:
    """Aim reads no variable; with its hash kept in the run's folder, as docs/trackers.md shows, two boxes are one run."""
    backprop.environment |= {"PYTHONPATH": installed_apart("aim")}
    script = backprop.script(AIM % "3s")
    first = backprop("run", "train.py", "--run-id", "t")
    assert backprop.record("t")["status"] == "timeboxed", first.stderr
    script.write_text(AIM % "10m")
    second = backprop("resume", "t", "-m", "10")
    assert backprop.record("t")["status"] == "completed", second.stderr
    read = subprocess.run(
        [sys.executable, "-c", AIMS_POINTS],
        cwd=backprop.folder,
        env=backprop.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot be kept" not in first.stderr + second.stderr
    assert json.loads(read.stdout.splitlines()[-1]) == [list(range(1, 61))]


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
