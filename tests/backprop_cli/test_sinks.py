"""Sinks and hooks from the command line: asked for once, remembered, checked before anything starts, and no matter to
the run.
"""

from __future__ import annotations

import json

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_cli.sessions import STANDIN


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
