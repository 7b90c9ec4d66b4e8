"""The command and `backprop.timebox` together: no stand-in, a script as a user writes it."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine, end, wait_for

TRAINS = """
    import hashlib, random, sys, time
    import backprop

    class Model:
        def __init__(self): self.weights = [0.0] * 8
        def state_dict(self): return {"weights": list(self.weights)}
        def load_state_dict(self, state): self.weights = list(state["weights"])

    random.seed(1)
    model = Model()
    with backprop.timebox(model=model) as box:
        for step in box.steps(int(sys.argv[1])):
            model.weights[step % 8] += random.random()
            time.sleep(0.01)
            box.log(loss=1.0 / (step + 1))
    print("hash", hashlib.sha256(repr(model.weights).encode()).hexdigest()[:16])
"""


def hash_in(text: str) -> str:
    found = re.search(r"hash (\w+)", text)
    assert found, text
    return found[1]


def progress(backprop: CommandLine, run: str) -> str:
    path = backprop.attempt_dir(run) / "events.jsonl"
    return path.read_text() if path.exists() else ""


def test_a_cut_run_ends_as_an_uncut_one(backprop: CommandLine) -> None:
    """Two boxes give the same weights as one, each box is on time, and the statuses are 0."""
    backprop.script(TRAINS)
    steps = str(backprop.steps(250, step_s=0.01))
    whole = backprop("run", "train.py", "--run-id", "whole", "--", steps)
    assert whole.returncode == 0, whole.stderr
    cut = backprop("run", "train.py", "-m", backprop.box(2.4), "--run-id", "cut", "--", steps)
    assert cut.returncode == 0, cut.stderr
    record = backprop.record("cut")
    assert record["status"] == "timeboxed"
    governor = record["attempts"][0]["measured"]["governor"]
    assert governor["unused_s"] > 0
    assert not governor["killed"]
    rest = backprop("resume", "cut", "-m", "5")
    assert rest.returncode == 0, rest.stderr
    assert hash_in(rest.stdout) == hash_in(whole.stdout)
    assert backprop.record("cut")["status"] == "completed"


@pytest.mark.faults
def test_a_chain_of_boxes_ends_as_an_uncut_run(backprop: CommandLine) -> None:
    """--until-done reaches the end by itself, with the uncut run's weights."""
    backprop.script(TRAINS)
    steps = str(backprop.steps(300, step_s=0.01))
    whole = backprop("run", "train.py", "--", steps)
    chain = backprop(
        "run", "train.py", "-m", backprop.box(2.4), "--until-done", "--run-id", "chain", "--", steps
    )
    assert chain.returncode == 0, chain.stderr
    assert len(backprop.record("chain")["attempts"]) >= 2
    assert hash_in(chain.stdout) == hash_in(whole.stdout)


def test_ctrl_c_stop_and_the_end_of_a_governor_each_leave_a_checkpoint(backprop: CommandLine) -> None:
    """However the run is ended before its time, a resume gives the uncut run's weights."""
    backprop.script(TRAINS)
    whole = hash_in(backprop("run", "train.py", "--", "400").stdout)
    for number, run in ((signal.SIGINT, "int"), (signal.SIGTERM, "term"), (signal.SIGKILL, "kill")):
        process = backprop.start("run", "train.py", "--run-id", run, "--", "400")
        wait_for(lambda run=run: '"progress"' in progress(backprop, run))
        process.send_signal(number)
        process.communicate(timeout=240)
        wait_for(lambda run=run: "session_finished" in progress(backprop, run))
        wait_for(lambda: backprop.runs()[0]["status"] != "running")
        assert backprop.runs()[0]["last_checkpoint"], run
        assert hash_in(backprop("resume", run).stdout) == whole, run


def test_requests_from_another_terminal_reach_a_real_session(backprop: CommandLine) -> None:
    """checkpoint, pause, continue, extend and stop all do what they say, and the record tells of the pause."""
    backprop.script(TRAINS)
    process = backprop.start("run", "train.py", "-m", "0.2", "--run-id", "r", "--", "100000")
    wait_for(lambda: '"progress"' in progress(backprop, "r"))
    backprop("checkpoint", "r")
    wait_for(lambda: '"reason": "requested"' in progress(backprop, "r"))
    backprop("pause", "r")
    wait_for(lambda: "paused" in progress(backprop, "r").lower())
    count = progress(backprop, "r").count('"progress"')
    backprop("status", "r")
    assert progress(backprop, "r").count('"progress"') <= count + 1
    backprop("continue", "r")
    wait_for(lambda: progress(backprop, "r").count('"progress"') > count + 1)
    backprop("extend", "r", "1h")
    backprop("stop", "r")
    process.communicate(timeout=240)
    assert process.returncode == 0
    record = backprop.record("r")
    assert record["status"] == "stopped"
    assert len(record["attempts"][0]["measured"]["governor"]["pauses"]) == 1


def remaining_s(backprop: CommandLine, run: str) -> float:
    """What the newest progress says is left of the time box."""
    lines = [json.loads(line) for line in progress(backprop, run).splitlines() if '"progress"' in line]
    return float(lines[-1]["remaining_s"])


def test_what_is_asked_of_a_paused_session_is_done_when_it_goes_on(backprop: CommandLine) -> None:
    """While it is held nothing is saved; after `continue` the checkpoint is made, and the box has grown by both."""
    backprop.script(TRAINS)
    process = backprop.start("run", "train.py", "-m", "0.3", "--run-id", "h", "--", "100000")
    try:
        wait_for(lambda: '"progress"' in progress(backprop, "h"))
        assert backprop("pause", "h").returncode == 0
        wait_for(lambda: '"paused"' in progress(backprop, "h"))
        before, left_s = progress(backprop, "h").count('"progress"'), remaining_s(backprop, "h")
        for words in (["extend", "h", "1m"], ["checkpoint", "h"]):
            assert backprop(*words).returncode == 0
        assert '"requested"' not in progress(backprop, "h")
        assert backprop("continue", "h").returncode == 0
        wait_for(lambda: '"reason": "requested"' in progress(backprop, "h"))
        wait_for(lambda: progress(backprop, "h").count('"progress"') > before + 1)
        # Without the minute it could not be more than before the pause; the pause itself is given back as well.
        assert left_s + 60.0 - 10.0 < remaining_s(backprop, "h") <= left_s + 60.0
        assert backprop("stop", "h").returncode == 0
        _, err = process.communicate(timeout=240)
    finally:
        end(process)
    told = [line for line in err.splitlines() if "Paused" in line or "ontinu" in line or "extended" in line]
    assert len(told) == 3, told  # each once, by the governor alone
    assert "The time box was extended by 1 min 00 s." in err
    governor = backprop.record("h")["attempts"][0]["measured"]["governor"]
    assert governor["unused_s"] > 50.0
    assert len(governor["pauses"]) == 1


def test_a_file_that_the_script_has_announced_is_not_taken_for_the_sessions(backprop: CommandLine) -> None:
    """Killed before the session's first copy, the run knows only the script's own file: the session begins anew, loudly."""
    announces = 'open("own.pt", "w").write("w"); print(\'{"event": "checkpoint_saved", "path": "own.pt"}\', flush=True)'
    dies = 'sys.argv[1] == "100000" and signal.raise_signal(signal.SIGKILL)'
    backprop.script(TRAINS.replace("random.seed(1)", f"import signal; random.seed(1); {announces}; {dies}"))
    whole = hash_in(backprop("run", "train.py", "--", "100").stdout)
    assert backprop("run", "train.py", "--run-id", "own", "--", "100000").returncode == 137
    assert [Path(path).name for path in backprop.record("own")["checkpoints"]] == ["own.pt"]
    work = backprop.home / "runs" / "own" / "run.json"
    work.write_text(work.read_text().replace('"100000"', '"100"'))
    ran = backprop("resume", "own")
    assert ran.returncode == 0, ran.stderr
    assert "STARTS FROM SCRATCH" in ran.stderr
    assert hash_in(ran.stdout) == whole


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.long
def test_a_session_that_slept_past_its_deadline_has_its_time_back(backprop: CommandLine) -> None:
    """Ctrl-Z for longer than the time box: after waking, the session trains on for what was left of it."""
    backprop.script(TRAINS)
    process = backprop.start(
        "run", "train.py", "-m", backprop.box(6), "--run-id", "z", "--", "100000", process_group=0
    )
    wait_for(lambda: '"progress"' in progress(backprop, "z"))
    process.send_signal(signal.SIGTSTP)
    wait_for(lambda: state(process.pid) == "T")
    slept_until = time.monotonic() + 7.0
    before = progress(backprop, "z").count('"progress"')
    wait_for(lambda: time.monotonic() > slept_until)
    assert progress(backprop, "z").count('"progress"') == before
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=240)
    assert process.returncode == 0
    record = backprop.record("z")
    assert record["status"] == "timeboxed"
    assert progress(backprop, "z").count('"progress"') > before + 1
    assert record["attempts"][0]["measured"]["governor"]["used_s"] > 6.0 - 1.0 + 7.0


@pytest.mark.faults
def test_a_pause_longer_than_the_time_box_ends_nothing(backprop: CommandLine) -> None:
    """A session that is held at its safe point past its first deadline goes on afterwards with the time it had left."""
    backprop.script(TRAINS)
    process = backprop.start("run", "train.py", "-m", backprop.box(6), "--run-id", "p", "--", "100000")
    wait_for(lambda: '"progress"' in progress(backprop, "p"))
    backprop("pause", "p")
    wait_for(lambda: '"paused"' in progress(backprop, "p"))
    before = progress(backprop, "p").count('"progress"')
    until = time.monotonic() + 7.0
    wait_for(lambda: time.monotonic() > until)
    assert process.poll() is None
    backprop("continue", "p")
    process.communicate(timeout=240)
    assert process.returncode == 0
    assert backprop.record("p")["status"] == "timeboxed"
    assert progress(backprop, "p").count('"progress"') > before + 1


def test_a_damaged_newest_checkpoint_is_passed_over_loudly(backprop: CommandLine) -> None:
    """With one byte of the newest checkpoint changed, the resume says so, takes the one before, and ends the same."""
    backprop.script(TRAINS)
    whole = hash_in(backprop("run", "train.py", "--", "400").stdout)
    process = backprop.start("run", "train.py", "--run-id", "d", "--", "400")
    wait_for(lambda: '"progress"' in progress(backprop, "d"))
    backprop("checkpoint", "d")
    wait_for(lambda: '"reason": "requested"' in progress(backprop, "d"))
    backprop("stop", "d")
    process.communicate(timeout=240)
    newest = Path(backprop.record("d")["last_checkpoint"])
    victim = max(
        (path for path in newest.iterdir() if path.name != "manifest.json"), key=lambda p: p.stat().st_size
    )
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    ran = backprop("resume", "d")
    assert ran.returncode == 0, ran.stderr
    assert "damaged" in ran.stderr
    assert hash_in(ran.stdout) == whole
