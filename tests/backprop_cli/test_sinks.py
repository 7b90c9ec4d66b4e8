"""Sinks and hooks from the command line: asked for once, remembered, checked before anything starts, and no matter to
the run.
"""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.backprop_cli.commandline import DEADLINE_S, CommandLine, gone, wait_for
from tests.backprop_cli.sessions import STANDIN
from tests.backprop_sinks import faulty, readers
from tests.programs import program


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
        (("--sink", "tensorbord"), "There is no sink 'tensorbord'. Installed sinks:"),
        (("--sink=command",), "The sink command has no command to run."),
        (("--on-event", "ended=true"), "There is no event 'ended'. Events: attempt_ended"),
        (("--on-event", "checkpoint_saved"), "--on-event"),
        (("--on-end", " "), "--on-end"),
    ):
        ran = backprop("run", "train.py", *option)
        assert ran.returncode == 2, ran.stderr
        assert said in ran.stderr
    assert not backprop.runs()


COUNTING = """
import time
import backprop
class Counter:
    n = 0
    def state_dict(self): return {"n": self.n}
    def load_state_dict(self, state): self.n = state["n"]
counter = Counter()
with backprop.timebox(counter=counter) as box:
    for step in box.steps(%d):
        time.sleep(0.05)
        counter.n += 1
        box.log(n=counter.n)
"""


@pytest.mark.faults
def test_two_boxes_are_one_curve_in_every_sink(
    backprop: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command alone, each tool's own reader finds one run with a curve over both boxes, in which no step comes twice
    and the last is the training's.
    """
    folder = backprop.folder
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    backprop.environment |= {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_TRACKING_URI": f"file://{folder}/mlruns",
    }
    backprop.script(COUNTING % 10**6)
    sinks = ("--sink", "tensorboard:logs", "--sink", "wandb", "--sink", "mlflow")
    first = backprop("run", "train.py", "--run-id", "s", "-m", backprop.box(6), *sinks)
    assert backprop.record("s")["status"] == "timeboxed", first.stderr
    cut = backprop.record("s")["last_step"]
    backprop.script(COUNTING % (cut + 100))
    second = backprop("resume", "s", "-m", "10")
    assert backprop.record("s")["status"] == "completed", second.stderr
    wandb = backprop.home / "runs" / "s" / "sinks" / "wandb"
    runs = readers.wandb_runs(wandb)
    assert set(runs) == {"s"}
    rows = [row for row in readers.wandb_history(wandb) if "n" in row]
    for points in (
        readers.tensorboard_scalars(folder / "logs" / "s", "n"),
        [(row["step"], row["n"]) for row in rows],
        readers.mlflow_points(backprop.environment["MLFLOW_TRACKING_URI"], "0", "n"),
    ):
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps))
        assert min(steps) < cut < max(steps) == cut + 100
        assert all(value == step for step, value in points)


class _Webhook(BaseHTTPRequestHandler):
    """Keeps what is posted to it."""

    heard: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        self.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_recipes_for_webhooks_post_what_they_say(backprop: CommandLine) -> None:
    """The script for Slack and the line for any webhook, as docs/sinks.md has them, post valid JSON of a run's end."""
    program("curl")
    page = (Path(__file__).parents[2] / "docs" / "sinks.md").read_text(encoding="utf-8")
    (notify,) = re.findall(r"^```bash\n(#!/bin/sh\n# notify.sh:.*?)```$", page, re.M | re.S)
    (posted,) = re.findall(r"^backprop run train.py --on-end '(curl .*-d @- )https://\S+'$", page, re.M)
    backprop.script(notify, "notify.sh").chmod(0o755)
    backprop.script(STANDIN)
    with HTTPServer(("127.0.0.1", 0), _Webhook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        backprop.environment |= {"SLACK_WEBHOOK_URL": address, "no_proxy": "127.0.0.1"}
        for hook in ("./notify.sh", f"{posted}{address}"):
            ran = backprop("run", "train.py", "--run-id", f"w{len(_Webhook.heard)}", "--on-end", hook)
            assert ran.returncode == 0, ran.stderr
        server.shutdown()
    slack, event = _Webhook.heard
    assert slack == {"text": "w0: completed at step 40, loss 0.025"}
    assert (event["kind"], event["run_id"], event["outcome"]) == ("attempt_ended", "w1", "completed")


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
