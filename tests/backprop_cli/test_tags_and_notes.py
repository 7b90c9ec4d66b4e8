"""`backprop tag`, `backprop note`, and what `backprop list` makes of them."""

from __future__ import annotations

import json

from tests.backprop_cli.commandline import CommandLine, wait_for
from tests.backprop_cli.sessions import STANDIN


def test_tags_and_notes_are_kept_shown_and_found(backprop: CommandLine) -> None:
    """A tag finds its run, a word with a minus in front removes it, and status shows tags and notes."""
    backprop.script('print(\'{"step": 12, "loss": 0.125}\')')
    backprop("run", "train.py", "--run-id", "good")
    backprop.script('print(\'{"step": 9, "loss": 0.5}\')')
    backprop("run", "train.py", "--run-id", "worse")
    assert backprop("tag", "good", "+baseline", "lr=0.1", "+hours").stdout.split() == [
        "baseline",
        "hours",
        "lr=0.1",
    ]
    assert backprop("tag", "good", "-hours", "--json").stdout.strip() == (
        '{"run_id": "good", "tags": ["baseline", "lr=0.1"]}'
    )
    assert "no tags" in backprop("tag", "worse").stderr
    assert backprop("note", "good", "tried", "twice").stdout.endswith("  tried twice\n")
    told = backprop("status", "good").stdout
    assert "tags         baseline lr=0.1" in told
    assert "  tried twice" in told
    rows = json.loads(backprop("list", "--tag", "baseline", "--json").stdout)
    assert [(row["id"], row["tags"]) for row in rows] == [("good", ["baseline", "lr=0.1"])]
    shown = backprop("list", "--where", "loss<1", "--sort", "loss", "--reverse").stdout.splitlines()
    assert [line.split()[0] for line in shown] == ["id", "worse", "good"]
    assert shown[0].split()[-1] == "tags"
    assert "No matching runs" in backprop("list", "--older-than", "1h").stderr
    assert len(backprop("list", "--newer-than", "1h", "--where", "step>=12").stdout.splitlines()) == 2


def test_what_cannot_be_meant_is_one_sentence(backprop: CommandLine) -> None:
    """Bad tags, notes, conditions, ages and keys end with status 2 and no traceback."""
    backprop.script("")
    backprop("run", "train.py", "--run-id", "x")
    for words in (
        ["tag", "x", "+a b"],
        ["tag", "x", "+a", "-a"],
        ["tag", "x", "--soon"],
        ["tag", "nothing", "+a"],
        ["tag"],
        ["note", "x", " "],
        ["list", "--where", "loss"],
        ["list", "--sort", "accuracy"],
        ["list", "--newer-than", "soon"],
        ["list", "--newer-than", "1h", "--older-than", "2h"],
    ):
        ran = backprop(*words)
        assert ran.returncode == 2, words
        assert ran.stderr.strip(), words
        assert "Traceback" not in ran.stderr, words
    assert not (backprop.home / "runs" / "x" / "labels.json").exists()


def test_a_run_that_trains_can_be_tagged(backprop: CommandLine) -> None:
    """Its record belongs to its governor; tags and notes do not have to wait for it, and stay."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "100000"
    process = backprop.start("run", "train.py", "--run-id", "now")
    try:
        wait_for(lambda: (backprop.runs() or [{}])[0].get("last_step"))
        assert backprop("tag", "now", "+live").returncode == 0
        assert backprop("note", "now", "looks good").returncode == 0
    finally:
        process.terminate()
        process.communicate(timeout=240)
    assert backprop("tag", "now").stdout == "live\n"
    assert "looks good" in backprop("status", "now").stdout
