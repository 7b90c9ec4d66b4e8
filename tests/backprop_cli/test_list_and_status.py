"""`backprop list` and `backprop status RUN`."""

from __future__ import annotations

import json
import re

from tests.backprop_cli.commandline import CommandLine, wait_for
from tests.backprop_cli.sessions import STANDIN


def test_an_empty_home_is_said_and_not_made(backprop: CommandLine) -> None:
    """Looking makes nothing, and an empty list tells how to begin."""
    ran = backprop("list")
    assert ran.returncode == 0
    assert "backprop run" in ran.stderr
    assert not backprop.home.exists()
    assert json.loads(backprop("list", "--json").stdout) == []


def test_list_shows_runs_and_filters_them(backprop: CommandLine) -> None:
    """Columns are filled, newest first; --status, --name and --limit choose."""
    backprop.script('print(\'{"step": 12, "loss": 0.125}\')')
    backprop("run", "train.py", "--run-id", "good", "-n", "baseline")
    backprop.script("raise SystemExit(1)")
    backprop("run", "train.py", "--run-id", "bad")
    lines = backprop("list").stdout.splitlines()
    assert lines[0].split() == ["id", "name", "status", "duration", "step", "loss", "checkpoints", "when"]
    assert lines[1].split()[:3] == ["bad", "-", "failed"]
    assert lines[2].split()[:3] == ["good", "baseline", "completed"]
    assert lines[2].split()[5:7] == ["12", "0.125"]
    assert backprop("list", "--status", "failed").stdout.splitlines()[1].startswith("bad")
    assert len(backprop("list", "--status", "failed").stdout.splitlines()) == 2
    assert backprop("list", "-n", "base").stdout.splitlines()[1].startswith("good")
    assert len(backprop("list", "--limit", "1").stdout.splitlines()) == 2
    assert backprop("list", "--limit", "0").returncode == 2
    assert backprop("list", "--status", "asleep").returncode == 2


def test_a_name_of_any_bytes_takes_one_line_and_moves_no_terminal(backprop: CommandLine) -> None:
    """Line breaks, escapes, bytes that are no text, and a locale that knows only ASCII."""
    backprop.script("")
    backprop("run", "train.py", "--run-id", "odd", "-n", "a\nb\x1b[31m\udcff°")
    backprop.environment["PYTHONIOENCODING"] = "ascii"
    shown = backprop("list")
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[1].split()[:3] == ["odd", "a?b?[31m?°", "completed"]
    assert "\x1b" not in backprop("status", "odd").stdout
    assert backprop("status", "odd", "--json").returncode == 0


def test_an_announced_path_moves_no_terminal(backprop: CommandLine) -> None:
    """Escape sequences in what a script announces reach the terminal by none of the commands that show it."""
    backprop.script(
        """
        import json, os
        name = "x\x1b[2Jy"
        open(name, "w").write("saved")
        print(json.dumps({"event": "checkpoint_saved", "path": os.path.abspath(name)}))
        raise SystemExit(1)
        """
    )
    backprop("run", "train.py", "--run-id", "esc")
    for command in (["status", "esc"], ["checkpoints", "esc"], ["verify", "esc"], ["resume", "esc"]):
        shown = backprop(*command)
        assert "x?[2Jy" in shown.stdout + shown.stderr, command
        assert "\x1b" not in shown.stdout + shown.stderr, command


def test_a_damaged_record_is_warned_of_and_the_others_are_shown(backprop: CommandLine) -> None:
    """Neither a damaged run.json nor a damaged experiments.json hides what is whole."""
    backprop.script("raise SystemExit(1)")
    backprop("run", "train.py", "--run-id", "whole")
    backprop("run", "train.py", "--run-id", "broken")
    (backprop.home / "runs" / "broken" / "run.json").write_text("{")
    (backprop.home / "experiments.json").write_text("{")
    ran = backprop("list")
    assert ran.returncode == 0
    assert "whole" in ran.stdout
    assert "damaged" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_status_tells_the_whole_story(backprop: CommandLine) -> None:
    """Command, attempts with reasons, steps, slack and checkpoints are all there; --json gives the record."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = str(backprop.steps(80))
    backprop(
        "run", "train.py", "-m", backprop.box(1.8), "--run-id", "told", "-n", "a story", "--", "--lr", "0.1"
    )
    backprop("resume", "told", "-m", "1")
    shown = backprop("status", "told")
    assert shown.returncode == 0
    for words in (
        "run told (a story): completed",
        "train.py --lr 0.1",
        "1. ",
        "timeboxed",
        "The stand-in was timeboxed.",
        "2. ",
        "0.25 s left when the box ended",
        "checkpoints\n  ",
        "step-00000000",
    ):
        assert words in shown.stdout
    assert json.loads(backprop("status", "to", "--json").stdout)["id"] == "told"
    assert backprop("status", "nothing").returncode == 2


def test_a_running_run_is_shown_as_it_is(backprop: CommandLine) -> None:
    """While a run goes on, list and status show it running with its latest step."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "100000"
    process = backprop.start("run", "train.py", "--run-id", "now")
    try:
        wait_for(lambda: (backprop.runs() or [{}])[0].get("last_step"))
        assert backprop.runs()[0]["status"] == "running"
        assert "running" in backprop("status", "now").stdout
    finally:
        process.terminate()
        process.communicate(timeout=240)
    assert backprop.runs()[0]["status"] == "preempted"


def test_a_clock_that_was_set_changes_no_duration(backprop: CommandLine) -> None:
    """An attempt that seems to have lasted ten days by the wall clock took the time that was measured."""
    backprop.script("")
    assert backprop("run", "train.py", "--run-id", "jump").returncode == 0
    path = backprop.home / "runs" / "jump" / "run.json"
    record = json.loads(path.read_text())
    record["attempts"][0]["ended_wall"] += 864_000
    path.write_text(json.dumps(record))
    shown = backprop("status", "jump").stdout
    assert "240 h" not in shown
    assert re.search(r"1\. .*, \d+\.\d s of 10 min 00 s: completed", shown)
