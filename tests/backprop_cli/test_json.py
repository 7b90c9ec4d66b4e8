"""--json: one object at the end, whatever the command and however it went."""

from __future__ import annotations

import json

from tests.backprop_cli.commandline import CommandLine, end, wait_for


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
    told = json.loads(last)
    assert (told["run_id"], told["outcome"], told["exit_status"], told["boxes"]) == ("j", "failed", 3, 1)
    assert (told["step"], told["loss"]) == (7, 0.5)
    assert told["checkpoint"] == str(backprop.folder / "model.pt")
    assert "exit status 3" in told["why"]
    assert told["seconds"] > 0
    assert told["peak_memory_bytes"] > 1_000_000
    second = json.loads(backprop("resume", "j", "--json").stdout.splitlines()[-1])
    assert (second["outcome"], second["exit_status"], second["boxes"]) == ("completed", 0, 1)


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
        told = json.loads(ran.stdout)
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
