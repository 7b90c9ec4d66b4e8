"""Sinks and hooks from the command line: asked for once, remembered, checked before anything starts, and no matter to
the run.
"""

from __future__ import annotations

import json
import time

import pytest

from tests.backprop_cli.commandline import DEADLINE_S, CommandLine, gone, wait_for
from tests.backprop_cli.sessions import STANDIN
from tests.backprop_sinks import faulty


def test_hooks_are_told_of_every_box_of_a_run(backprop: CommandLine) -> None:
    """`--on-end` and `--on-event` run for the first box and, remembered, for the resumed one; the command ends behind
    them.
    """
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = str(backprop.steps(150))
    hooks = (
        "--on-end",
        "cat >> ends.jsonl",
        "--on-event",
        "checkpoint_saved=echo $BACKPROP_EVENT_PATH >> saved",
    )
    first = backprop("run", "train.py", "-m", backprop.box(2), "--run-id", "h", "--name", "a name", *hooks)
    assert first.returncode == 0, first.stderr
    second = backprop("resume", "h", "-m", "10")
    assert second.returncode == 0, second.stderr
    ends = [json.loads(line) for line in (backprop.folder / "ends.jsonl").read_text().splitlines()]
    assert [(end["kind"], end["attempt"], end["outcome"]) for end in ends] == [
        ("attempt_ended", 1, "timeboxed"),
        ("attempt_ended", 2, "completed"),
    ]
    assert [(end["next"], end["name"], end["resumable"]) for end in ends] == [
        ("backprop resume h", "a name", True),
        (None, "a name", False),
    ]
    assert ends[0]["checkpoint"] == (backprop.folder / "saved").read_text().strip()
    assert ends[0]["seconds"] > 1
    governor = (backprop.attempt_dir("h") / "governor.jsonl").read_text().splitlines()
    assert [json.loads(governor[place])["kind"] for place in (0, -1)] == ["attempt_started", "attempt_ended"]


def test_a_hook_that_fails_is_said_and_changes_no_status(backprop: CommandLine) -> None:
    """The run's own status stays, and one sentence names the command that failed; hooks may stand in a configuration
    file.
    """
    backprop.script("")
    config = {"onEvent": {"attempt_started": "exit 7"}, "onEnd": "no-such-program-here"}
    (backprop.folder / "backprop.config.json").write_text(json.dumps(config))
    ran = backprop("run", "train.py")
    assert ran.returncode == 0
    assert "'exit 7' ended with status 7." in ran.stderr
    log = next(backprop.home.glob("runs/*/sinks/command/output.log")).read_text()
    assert "'no-such-program-here' ended with status 127." in log


def test_what_no_sink_could_do_is_refused_before_the_start(backprop: CommandLine) -> None:
    """An unknown sink, an unknown event and a hook without a command are status 2 with what is allowed; no run is made."""
    backprop.script("")
    for option, said in (
        (("--sink", "tensorbord"), "There is no sink 'tensorbord'. Installed are:"),
        (("--on-event", "ended=true"), "There is no event 'ended'. Events are: attempt_ended"),
        (("--on-event", "checkpoint_saved"), "--on-event"),
        (("--on-end", " "), "--on-end"),
    ):
        ran = backprop("run", "train.py", *option)
        assert ran.returncode == 2, ran.stderr
        assert said in ran.stderr
    assert not backprop.runs()


@pytest.mark.faults
def test_sinks_that_fail_hang_and_flood_harm_no_run(backprop: CommandLine) -> None:
    """Beside five bad sinks and a hook that hangs, a box ends in time and misses no step; a good sink hears everything, each
    bad one is told once, the command ends, and nothing of them is left.
    """
    backprop.environment["PYTHONPATH"] = faulty.install(backprop.folder)
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "100000"
    sinks = [word for name in faulty.NAMES for word in ("--sink", name)]
    hook = ("--on-event", "session_started=echo $$ > hook; sleep 1000")
    began = time.monotonic()
    ran = backprop("run", "train.py", "-m", backprop.box(3), "--run-id", "h", *sinks, *hook)
    assert ran.returncode == 0, ran.stderr
    assert time.monotonic() - began < DEADLINE_S
    attempt = backprop.record("h")["attempts"][0]
    assert attempt["outcome"] == "timeboxed"
    assert attempt["measured"]["governor"]["unused_s"] >= 0.0, "it was late"
    steps = [event["step"] for event in map(json.loads, _events(backprop)) if event["kind"] == "progress"]
    assert steps == list(range(1, steps[-1] + 1))
    folder = backprop.home / "runs" / "h" / "sinks"
    told = (folder / "good" / "told").read_text().splitlines()
    assert told.count("1 progress") == len(steps)
    assert told[-1] == "1 attempt_ended"
    for sentence in (
        "The sink fails failed: RuntimeError: no such server at all",
        "The sink never could not start: OSError: no licence",
        "The sink hangs did not finish in time and was stopped",
        "The sink command did not finish in time and was stopped",
        "The process of the sink dies ended early",
    ):
        assert ran.stderr.count(sentence) == 1, ran.stderr
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 3_000_000
    for file in (*folder.glob("*/pid"), folder / "hangs" / "child", backprop.folder / "hook"):
        pid = int(file.read_text())
        wait_for(lambda pid=pid: gone(pid))  # type: ignore[misc]


def _events(backprop: CommandLine) -> list[str]:
    return (backprop.attempt_dir("h") / "events.jsonl").read_text().splitlines()
