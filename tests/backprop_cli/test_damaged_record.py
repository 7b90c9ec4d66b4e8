"""What a person can still do with a run whose run.json is damaged."""

from __future__ import annotations

import json
import os

import pytest

from tests.backprop_cli.commandline import CommandLine, end, wait_for
from tests.backprop_cli.sessions import STANDIN


@pytest.fixture
def run(backprop: CommandLine) -> CommandLine:
    """A time-boxed run `r` with a checkpoint, and a whole one beside it."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = str(backprop.steps(60))
    backprop("run", "train.py", "-m", backprop.box(1.2), "--run-id", "r", "--", "--lr", "0.1")
    backprop.environment["STANDIN_STEPS"] = "1"
    return backprop


@pytest.mark.parametrize("junk", ["", '{"float": []}'])
def test_a_run_with_a_damaged_record_is_used_as_before(run: CommandLine, junk: str) -> None:
    """Shown, looked at and resumed with its own arguments; the record is whole again after that."""
    path = run.home / "runs" / "r" / "run.json"
    path.write_text(junk)
    listed = run("list", "--json")
    assert [row["status"] for row in json.loads(listed.stdout)] == ["timeboxed"]
    shown = run("status", "r")
    assert "train.py --lr 0.1" in shown.stdout
    assert "run.json is damaged" in shown.stderr
    for command in ("checkpoints", "verify"):
        ran = run(command, "r")
        assert "step-0000" in ran.stdout + ran.stderr
    assert "would remove" in run("prune", "--older-than", "0s", "--dry-run").stderr
    assert path.read_text() == junk  # whoever only looks changes nothing
    ran = run("resume", "r")
    assert ran.returncode == 0, ran.stderr
    assert "argv --lr 0.1" in ran.stdout
    assert [attempt["outcome"] for attempt in run.record("r")["attempts"]] == ["timeboxed", "completed"]


def test_a_command_that_is_known_no_more_is_said(run: CommandLine) -> None:
    """Without record and copy nobody knows the script's arguments: no guess, and the way on with its checkpoint."""
    folder = run.home / "runs" / "r"
    (folder / "run.json").write_text("")
    (folder / "run.json.before").unlink()
    ran = run("resume", "r")
    assert ran.returncode == 2
    assert "The command of run" in ran.stderr
    assert f"--resume-from {folder / 'checkpoints' / 'step-'}" in ran.stderr
    assert run("prune", "--older-than", "0s", "--yes").returncode == 0
    assert not folder.exists()


def test_damage_while_it_trains_ends_nothing(backprop: CommandLine) -> None:
    """Every file of a running run becomes junk: it goes on, can be stopped, and ends with its checkpoint."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "100000"
    process = backprop.start("run", "train.py", "--run-id", "r")
    try:
        wait_for(lambda: (backprop.runs() or [{}])[0].get("last_step"))
        attempt = backprop.attempt_dir("r")
        with (attempt / "events.jsonl").open("a") as events:
            events.write('{"float": []}\n{"kind": "progress", "step": [], "loss": 1' + "0" * 400 + "}\n")
        (attempt / "control.json").write_text('{"float": []}')
        (attempt.parents[1] / "run.json").write_text('{"float": []}')
        (backprop.home / "experiments.json").write_text('{"float": []}')
        assert backprop.runs()[0]["status"] == "running"
        assert backprop("stop", "r").returncode == 0
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
    finally:
        end(process)
    assert backprop.record("r")["status"] == "stopped"
    assert backprop.record("r")["last_checkpoint"]


@pytest.mark.faults
@pytest.mark.parametrize("how", ["a pipe", "a folder", "nothing"])
@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "run.json.before",
        "lock",
        "attempts/1/events.jsonl",
        "attempts/1/governor.jsonl",
        "attempts/1/control.json",
        "attempts/1/control.lock",
        "../../experiments.json",
        "../../experiments.lock",
    ],
)
def test_something_else_in_place_of_a_file_ends_nothing(backprop: CommandLine, name: str, how: str) -> None:
    """Replaced while the script trains: the script ends by itself, and list and status show the run all along."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "150"
    process = backprop.start("run", "train.py", "--run-id", "r")
    try:
        wait_for(lambda: (backprop.runs() or [{}])[0].get("last_step"))
        path = backprop.home / "runs" / "r" / name
        path.unlink(missing_ok=True)
        if how == "a pipe":
            os.mkfifo(path)
        if how == "a folder":
            (path / "inner").mkdir(parents=True)
        assert [row["id"] for row in backprop.runs()] == ["r"]
        assert backprop("status", "r").returncode == 0
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        assert "Traceback" not in err
    finally:
        end(process)
    assert backprop.runs()[0]["status"] == "completed"
