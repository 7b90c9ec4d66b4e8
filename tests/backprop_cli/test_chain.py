"""--until-done, --total, --rest, --module, --exec and --checkpoint-glob."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.backprop_cli.commandline import CommandLine, wait_for
from tests.backprop_cli.sessions import STANDIN


def test_boxes_follow_each_other_until_the_script_is_done(backprop: CommandLine) -> None:
    """One command makes as many attempts as it takes, with a rest between, and ends with 0 when it is
    complete.
    """
    backprop.script(STANDIN)
    steps = backprop.steps(130)
    backprop.environment["STANDIN_STEPS"] = str(steps)
    ran = backprop(
        "run", "train.py", "-m", backprop.box(1.8), "--until-done", "--rest", "0.005", "--run-id", "chain"
    )
    assert ran.returncode == 0, ran.stderr
    assert "resting" in ran.stderr
    assert "Resume:" not in ran.stderr  # the next box follows at once
    record = backprop.record("chain")
    outcomes = [attempt["outcome"] for attempt in record["attempts"]]
    assert outcomes == ["timeboxed"] * (len(outcomes) - 1) + ["completed"]
    assert len(outcomes) >= 2
    assert record["last_step"] == steps


def test_the_total_ends_a_chain(backprop: CommandLine) -> None:
    """The last box is cut to fit, and the run can be resumed, again as a chain."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "100000"
    total_s = 8.0 + 6 * backprop.start_s
    chain = ("--until-done", "--total", f"{total_s:.2f}s", "--run-id", "total")
    ran = backprop("run", "train.py", "-m", backprop.box(3), *chain)
    assert ran.returncode == 124
    assert "The total time is used up. Resume: backprop resume total --until-done\n" in ran.stderr
    assert ran.stderr.count("Resume:") == 1
    record = backprop.record("total")
    assert record["status"] == "timeboxed"
    assert len(record["attempts"]) >= 2
    assert record["attempts"][-1]["budget_s"] < record["attempts"][0]["budget_s"]
    backprop.environment["STANDIN_STEPS"] = str(record["last_step"] + 20)
    ran = backprop("resume", "total", "--until-done", "-m", "0.5")
    assert ran.returncode == 0
    assert backprop.record("total")["status"] == "completed"


@pytest.mark.long
def test_waiting_for_resources_counts_in_the_total(backprop: CommandLine) -> None:
    """The first box is cut by what the wait before it took, and a wait ends with the total."""
    backprop.script(STANDIN)
    backprop.environment |= {"STANDIN_STEPS": "100000", "BACKPROP_MAX_PARALLEL": "1"}
    start_s = backprop.start_s
    total_s = 12.0 + 4 * start_s
    chain = ["-m", "10", "--until-done", "--total", f"{total_s:.2f}s", "--run-id", "total"]
    first = backprop.start("run", "train.py", "--run-id", "first", "-m", backprop.box(6))
    wait_for(lambda: [row["id"] for row in backprop.runs()] == ["first"])
    began = time.monotonic()
    assert backprop("run", "train.py", *chain).returncode == 124
    assert time.monotonic() - began < total_s + 2.0 + 2 * start_s
    assert backprop.record("total")["attempts"][0]["budget_s"] < total_s - 2.0
    first.communicate(timeout=240)
    ran = backprop("run", "train.py", "--until-done", "--total", "2s", "--min-free-ram", "60000")
    assert ran.returncode == 75
    assert "at most 1.0 s" in ran.stderr


def test_a_box_that_gains_nothing_ends_the_chain(backprop: CommandLine) -> None:
    """A script that saves nothing would begin anew for ever: the chain says so and ends after one box."""
    backprop.script("import time; time.sleep(600)")
    ran = backprop("run", "train.py", "-m", backprop.box(0.6), "--until-done", "--run-id", "vain")
    assert ran.returncode == 124
    assert "made no progress" in ran.stderr
    assert len(backprop.record("vain")["attempts"]) == 1


OVERWRITES = """
import json, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
place = pathlib.Path("last.pt")
done = int(place.read_text()) if place.exists() else 0
while done < {steps}:
    time.sleep(0.02)
    done += 1
    pathlib.Path("new").write_text(str(done))  # whole or not at all: the signal may come in the middle of a write
    pathlib.Path("new").replace(place)
    {said}
"""
ANNOUNCES = 'print(json.dumps({"event": "checkpoint_saved", "path": "last.pt"}), flush=True)'
COUNTS_ANEW = 'print(json.dumps({"step": done - 1}), flush=True)'


@pytest.mark.parametrize("how", ["announced", "glob"])
def test_a_file_that_is_overwritten_is_progress(backprop: CommandLine, how: str) -> None:
    """A script that saves to one file, and names no step, is begun anew until it completes."""
    steps = backprop.steps(130)
    backprop.script(OVERWRITES.format(steps=steps, said=ANNOUNCES if how == "announced" else ""))
    options = ("--checkpoint-glob", "*.pt") if how == "glob" else ()
    ran = backprop("run", "train.py", "-m", backprop.box(1.8), "--until-done", "--run-id", "over", *options)
    assert ran.returncode == 0, ran.stderr
    record = backprop.record("over")
    assert (record["status"], (backprop.folder / "last.pt").read_text()) == ("completed", str(steps))
    assert len(record["attempts"]) >= 2


def test_boxes_that_all_begin_at_one_place_end_the_chain(backprop: CommandLine) -> None:
    """A script that begins anew each time writes its file and counts its steps, and gets nowhere: three boxes show it."""
    script = OVERWRITES.replace("int(place.read_text()) if place.exists() else 0", "0")
    backprop.script(script.format(steps=100_000, said=COUNTS_ANEW))
    chain = ("--until-done", "--checkpoint-glob", "*.pt", "--run-id", "anew")
    ran = backprop("run", "train.py", "-m", backprop.box(1.2), *chain)
    assert ran.returncode == 124
    assert "3 boxes all started at step 0" in ran.stderr
    assert len(backprop.record("anew")["attempts"]) == 3


def test_the_status_of_an_unfinished_chain_can_be_chosen(backprop: CommandLine) -> None:
    """--timeboxed-exit-code holds for a chain, too: a scheduler takes it for "again"."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "100000"
    ran = backprop(
        "run",
        "train.py",
        "-m",
        backprop.box(1.8),
        "--until-done",
        "--total",
        "5s",
        "--timeboxed-exit-code",
        "99",
    )
    assert ran.returncode == 99


def test_ctrl_c_during_a_rest_ends_the_chain(backprop: CommandLine) -> None:
    """Nothing runs then: the status says that the script is not done, and how to go on is said."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "100000"
    process = backprop.start(
        "run", "train.py", "-m", backprop.box(1.8), "--until-done", "--rest", "10", "--run-id", "r"
    )
    assert process.stderr is not None
    wait_for(lambda: "resting" in process.stderr.readline())  # type: ignore[union-attr]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 124
    assert "backprop resume r --until-done" in err
    assert len(backprop.record("r")["attempts"]) == 1


@pytest.mark.parametrize(
    "how", ["stop", *(pytest.param(how, marks=pytest.mark.long) for how in ("SIGTERM", "SIGUSR1"))]
)
def test_a_rest_is_ended_from_outside(backprop: CommandLine, how: str) -> None:
    """'backprop stop' from another terminal, or a scheduler's signal, ends the chain; nothing else can be asked of it
    then, and its story says that it waits.
    """
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "100000"
    process = backprop.start(
        "run", "train.py", "-m", backprop.box(1.8), "--until-done", "--rest", "10", "--run-id", "r"
    )
    assert process.stderr is not None
    wait_for(lambda: "resting" in process.stderr.readline())  # type: ignore[union-attr]
    assert f"process {process.pid}, to start a box" in backprop("status", "r").stdout
    assert backprop("pause", "r").returncode == 2
    if how == "stop":
        assert backprop("stop", "r").returncode == 0
    else:
        process.send_signal(signal.Signals[how])
    _, err = process.communicate(timeout=240)
    assert process.returncode == 124
    assert "backprop resume r --until-done" in err
    assert len(backprop.record("r")["attempts"]) == 1
    assert backprop("stop", "r").returncode == 2


@pytest.mark.parametrize(
    "arguments", [["--total", "8h"], ["--until-done", "--total", "soon"], ["--until-done", "--rest", "-1"]]
)
def test_wrong_chains_are_refused(backprop: CommandLine, arguments: list[str]) -> None:
    """A total without a chain, and values that cannot be meant, are usage errors."""
    backprop.script("")
    assert backprop("run", "train.py", *arguments).returncode == 2


def test_a_module_is_run_and_resumed_as_a_module(backprop: CommandLine) -> None:
    """--module is `python -m`, also on the resume."""
    package = backprop.folder / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "train.py").write_text("import sys; print(__package__, sys.argv[1:]); raise SystemExit(3)")
    ran = backprop("run", "--module", "package.train", "--run-id", "mod", "--", "x")
    assert (ran.returncode, ran.stdout) == (3, "package ['x']\n")
    assert backprop("resume", "mod").stdout == "package ['x']\n"
    assert backprop("run", "--module", "no/module.py").returncode == 2


def test_any_program_can_be_run(backprop: CommandLine) -> None:
    """--exec takes a program by path or name, also on the resume; one that does not exist is refused."""
    program = backprop.folder / "train.sh"
    program.write_text("#!/bin/sh\necho ran $1\nexit 3\n")
    program.chmod(0o755)
    ran = backprop("run", "--exec", "./train.sh", "--run-id", "sh", "--", "x")
    assert (ran.returncode, ran.stdout) == (3, "ran x\n")
    assert backprop("resume", "sh").stdout == "ran x\n"
    assert backprop("run", "--exec", "echo", "--", "hi").stdout == "hi\n"
    assert backprop("run", "--exec", "./nothing.sh").returncode == 2


def test_a_resume_of_a_script_with_a_session_is_not_named_the_scripts_own_files(
    backprop: CommandLine,
) -> None:
    """The session goes on from its own newest checkpoint, while the flag hands the script its own file."""
    backprop.script(
        STANDIN
        + """
import pathlib
pathlib.Path("own.pt").write_text("weights")
print(os.environ.get("BACKPROP_RESUME_FROM"), step)
"""
    )
    backprop.environment["STANDIN_STEPS"] = "100000"
    options = ("-m", backprop.box(1.8), "--checkpoint-glob", "*.pt", "--resume-flag", "--from")
    assert backprop("run", "train.py", "--run-id", "both", *options).returncode == 0
    backprop.environment["STANDIN_STEPS"] = "1"
    ran = backprop("resume", "both")
    assert f"argv --from {backprop.folder}/own.pt" in ran.stdout
    assert "None" in ran.stdout


def test_files_that_match_a_pattern_are_remembered_as_checkpoints(backprop: CommandLine) -> None:
    """What the script itself has saved during the attempt is found, older files are not; it is what a resume
    gets.
    """
    (backprop.folder / "out").mkdir()
    old = backprop.folder / "out" / "old.pt"
    old.write_text("another run's")
    os.utime(old, (1, 1))
    backprop.script(
        """
        import sys, time
        print(sys.argv[1:], flush=True)
        open("out/a.pt", "w").write("1"); time.sleep(0.05); open("out/b.pt", "w").write("2")
        if len(sys.argv) == 1: time.sleep(600)
        """
    )
    options = ("-m", backprop.box(1.2), "--checkpoint-glob", "out/*.pt", "--resume-flag", "--resume")
    ran = backprop("run", "train.py", "--run-id", "glob", *options)
    assert ran.returncode == 0
    names = [path.rpartition("/")[2] for path in backprop.record("glob")["checkpoints"]]
    assert names == ["a.pt", "b.pt"]
    assert backprop("resume", "glob").stdout == f"['--resume', '{backprop.folder}/out/b.pt']\n"
