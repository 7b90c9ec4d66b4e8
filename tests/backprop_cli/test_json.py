"""--json: one object at the end, whatever the command and however it went."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from typing import Any

import fastjsonschema
import pytest

from tests.backprop_cli.commandline import CommandLine, end, wait_for

TRAINING = """
import time
import backprop
time.sleep({start_up})
class Counter:
    n = 0
    def state_dict(self): return {{"n": self.n}}
    def load_state_dict(self, state): self.n = state["n"]
counter = Counter()
with backprop.timebox(counter=counter) as box:
    for step in box.steps({steps}):
        time.sleep(0.02)
        counter.n += 1
        box.log(loss=1 / (step + 1), lr=0.1, note="text")
"""


def valid(result: Any) -> Any:
    """`result`, which is as the schema that ships says."""
    schema = json.loads(files("backprop_cli").joinpath("result.schema.json").read_text(encoding="utf-8"))
    fastjsonschema.validate(schema, result)
    return result


def test_run_and_resume_end_with_one_object(backprop: CommandLine) -> None:
    """The last line of standard output has outcome, step, loss, checkpoint, seconds, peak memory and why."""
    backprop.script(
        """
        import json, os, sys
        open("model.pt", "w").write("w")
        print(json.dumps({"event": "checkpoint_saved", "path": "model.pt"}))
        print(json.dumps({"step": 7, "loss": 0.5}))
        print("torn", end="")
        raise SystemExit(3 if os.environ["BACKPROP_ATTEMPT"] == "1" else 0)
        """
    )
    first = backprop("run", "train.py", "--json", "--run-id", "j")
    assert first.returncode == 3
    *printed, last = first.stdout.splitlines()
    assert printed[-1] == "torn"
    told = valid(json.loads(last))
    assert (told["run_id"], told["outcome"], told["exit_status"], told["boxes"]) == ("j", "failed", 3, 1)
    assert (told["step"], told["loss"]) == (7, 0.5)
    assert told["checkpoint"] == str(backprop.folder / "model.pt")
    assert "exit status 3" in told["why"]
    assert told["seconds"] > 0
    assert told["peak_memory_bytes"] > 1_000_000
    assert told["next"] == "backprop resume j"
    second = valid(json.loads(backprop("resume", "j", "--json").stdout.splitlines()[-1]))
    assert (second["outcome"], second["exit_status"], second["boxes"]) == ("completed", 0, 1)
    assert second["next"] is None
    third = valid(json.loads(backprop("resume", "j", "--json").stdout))
    assert (third["outcome"], third["boxes"], third["exit_status"]) == ("completed", 0, 0)


def test_the_object_of_a_training_has_its_values_and_where_the_time_went(backprop: CommandLine) -> None:
    """`--json-to` writes it into a file or an open pipe and leaves standard output to the script; all logged numbers
    are in it.
    """
    backprop.script(TRAINING.format(start_up=0, steps=30) + "print('the end')")
    ran = backprop("run", "train.py", "--json-to", "result.json", "--run-id", "v", "--name", "first")
    assert ran.stdout == "the end\n"
    result = valid(json.loads((backprop.folder / "result.json").read_text()))
    assert (result["outcome"], result["step"], result["name"], result["next"]) == (
        "completed",
        30,
        "first",
        None,
    )
    assert result["values"] == {"loss": pytest.approx(1 / 30), "lr": 0.1}
    kinds = result["seconds_by_kind"]
    assert kinds["training"] >= 0.5
    assert sum(kinds.values()) - kinds["waiting"] == pytest.approx(result["seconds"], rel=0.05)
    reading, writing = os.pipe()
    again = backprop("resume", "v", "--json-to", f"/dev/fd/{writing}", pass_fds=(writing,))
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert valid(json.loads(pipe.read()))["boxes"] == 0
    assert again.stdout == ""


def test_a_box_may_count_from_the_first_step(backprop: CommandLine) -> None:
    """With `--budget-from training` a start-up that is longer than the box costs nothing of it: the training has all
    of its time, and is cut when that is over.
    """
    backprop.script(TRAINING.format(start_up=6, steps=100_000))
    ran = backprop(
        "run",
        "train.py",
        "-m",
        "4s",
        "--budget-from",
        "training",
        "--run-id",
        "b",
        "--json-to",
        "result.json",
    )
    assert ran.returncode == 0, ran.stderr
    assert "starting from scratch; the box counts from the first step." in ran.stderr
    assert "the first step came after " in ran.stderr
    assert "went to start-up" not in ran.stderr
    result = json.loads((backprop.folder / "result.json").read_text())
    assert result["outcome"] == "timeboxed"
    assert result["step"] > 1
    assert result["seconds_by_kind"]["starting"] > 6
    governor = backprop.record("b")["attempts"][0]["measured"]["governor"]
    assert governor["unused_s"] > 0
    assert governor["used_s"] + governor["unused_s"] > 6 + 4


def test_what_goes_wrong_before_the_start_is_an_object_too(backprop: CommandLine) -> None:
    """A bad value, an unknown run and refused resources: outcome null, why, and the exit status."""
    backprop.script("")
    for arguments, status, words in (
        (["run", "train.py", "--json", "-m", "soon"], 2, "max-run-minutes"),
        (["resume", "nothing", "--json"], 2, "nothing"),
        (["stop", "nothing", "--json"], 2, "nothing"),
        (["--json", "run", "train.py", "--no-wait", "--min-free-ram", "60000"], 75, "memory"),
    ):
        ran = backprop(*arguments)
        told = valid(json.loads(ran.stdout))
        assert (ran.returncode, told["exit_status"], told["outcome"]) == (status, status, None)
        assert words in told["why"]


def test_requests_and_records_are_objects(backprop: CommandLine) -> None:
    """extend, pause, continue and stop say what was asked of which run; logs and prune what there is."""
    backprop.script("import sys, time\nprint('here', flush=True)\ntime.sleep(300)")
    process = backprop.start("run", "train.py", "--run-id", "j", "--grace", "5")
    try:
        wait_for(lambda: "here" in backprop("logs", "j").stdout)
        for arguments in (
            ["extend", "j", "1m"],
            ["pause", "j"],
            ["continue", "j"],
            ["stop", "j"],
        ):
            told = json.loads(backprop(*arguments, "--json").stdout)
            assert (told["run_id"], told["asked"]) == ("j", arguments[0])
            assert told["status"] in ("running", "paused")
        process.wait(timeout=240)
    finally:
        end(process)
    assert json.loads(backprop("logs", "j", "--json").stdout)["output"].startswith("here")
    assert backprop("logs", "j", "--json", "-f").returncode == 2
    assert json.loads(backprop("prune", "--older-than", "0s", "--json", "--dry-run").stdout)["left"] == ["j"]
    assert json.loads(backprop("prune", "--older-than", "0s", "--json", "--yes").stdout)["removed"] == ["j"]


def test_a_script_keeps_its_own_json_flag(backprop: CommandLine) -> None:
    """What follows -- is the script's: no object of ours."""
    backprop.script("import sys; print(sys.argv[1:])")
    assert backprop("run", "train.py", "--", "--json").stdout == "['--json']\n"
