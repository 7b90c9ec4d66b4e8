"""`backprop resume`: what it restores, what it warns of, and what it refuses."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine, wait_for
from tests.backprop_cli.sessions import STANDIN

ANNOUNCES = """
    import json, os, sys, time
    origin = os.environ.get("BACKPROP_RESUME_FROM", "-")
    open("seen", "a").write(" ".join(sys.argv[1:]) + "|" + origin + "\\n")
    open("model.pt", "w").write("weights")
    print(json.dumps({"event": "checkpoint_saved", "path": "model.pt", "step": 3}), flush=True)
    if "--resume" not in sys.argv: time.sleep(600)
"""


def test_a_run_is_cut_and_resumed_to_its_end(backprop: CommandLine) -> None:
    """A session's run is timeboxed with status 0, its resume goes on at the step it had, and completes."""
    backprop.script(STANDIN)
    steps = backprop.steps(120)
    backprop.environment["STANDIN_STEPS"] = str(steps)
    first = backprop("run", "train.py", "-m", backprop.box(1.8), "--run-id", "cut", "--", "--lr", "0.1")
    assert first.returncode == 0, first.stderr
    assert "backprop resume cut" in first.stderr
    record = backprop.record("cut")
    assert record["status"] == "timeboxed"
    step = record["last_step"]
    assert 0 < step < steps
    assert record["last_checkpoint"].endswith(f"step-{step:012d}")
    second = backprop("resume", "cut", "-m", "0.5")
    assert second.returncode == 0, second.stderr
    assert second.stdout == "argv --lr 0.1\n"
    record = backprop.record("cut")
    assert (record["status"], record["last_step"], len(record["attempts"])) == ("completed", steps, 2)
    started = (backprop.attempt_dir("cut", 2) / "events.jsonl").read_text().splitlines()[0]
    assert f'"resumed_from": "{step}"' in started


def test_resume_restores_arguments_folder_interpreter_and_options(
    backprop: CommandLine, tmp_path: Path
) -> None:
    """Called from elsewhere with nothing but the id, the script starts as it did the first time."""
    wrapper = tmp_path / "snake"
    wrapper.write_text(f'#!/bin/sh\nexport WRAPPED=yes; exec {shutil.which("python3")} "$@"\n')
    wrapper.chmod(0o755)
    backprop.script(
        """
        import os, sys, time
        grace = os.environ["BACKPROP_GRACE_S"]
        print(os.getcwd(), sys.argv[1:], os.environ.get("WRAPPED"), grace, flush=True)
        time.sleep(600)
        """
    )
    options = ("-m", backprop.box(1.2), "--grace", "11", "--python", str(wrapper))
    first = backprop("run", "train.py", "--run-id", "kept", *options, "--", "a b")
    work, backprop.folder = backprop.folder, tmp_path
    second = backprop("resume", "kept")
    assert second.returncode == 124
    assert second.stdout == first.stdout == f"{work} ['a b'] yes 11.0\n"
    assert "STARTS FROM SCRATCH" in second.stderr


def test_the_resume_flag_hands_the_announced_checkpoint_to_the_script(backprop: CommandLine) -> None:
    """On a resume, and only then, `--resume <path>` is appended, and the path stands in the environment."""
    backprop.script(ANNOUNCES)
    ran = backprop(
        "run", "train.py", "-m", backprop.box(1.2), "--resume-flag", "--resume", "--run-id", "f", "--", "x"
    )
    assert ran.returncode == 0
    model = str(backprop.folder / "model.pt")
    ran = backprop("resume", "f")
    assert ran.returncode == 0, ran.stderr
    assert (backprop.folder / "seen").read_text() == f"x|-\nx --resume {model}|{model}\n"
    assert backprop.record("f")["status"] == "completed"


def test_a_resume_from_a_path_is_passed_on(backprop: CommandLine) -> None:
    """-r of `run` and of `resume` arrive as an absolute path."""
    backprop.script("import os; print(os.environ.get('BACKPROP_RESUME_FROM'))\nraise SystemExit(3)")
    (backprop.folder / "start.pt").write_text("w")
    assert (
        backprop("run", "train.py", "-r", "start.pt", "--run-id", "r", "-f", "none").stdout
        == f"{backprop.folder}/start.pt\n"
    )
    assert backprop("resume", "r", "-r", "start.pt").stdout == f"{backprop.folder}/start.pt\n"
    assert backprop("resume", "r", "-r", "gone.pt").returncode == 2


def test_a_completed_run_is_not_run_again(backprop: CommandLine) -> None:
    """It says so, and the status is 0."""
    backprop.script("print('ran')")
    backprop("run", "train.py", "--run-id", "done")
    again = backprop("resume", "done")
    assert (again.returncode, again.stdout) == (0, "")
    assert "completed" in again.stderr


def test_an_unknown_run_gets_a_proposal(backprop: CommandLine) -> None:
    """Status 2, and the run that was perhaps meant is named."""
    backprop.script("raise SystemExit(1)")
    backprop("run", "train.py", "--run-id", "baseline")
    ran = backprop("resume", "basline")
    assert ran.returncode == 2
    assert "baseline" in ran.stderr
    assert backprop("resume", "../../etc").returncode == 2


def test_a_beginning_of_an_id_is_enough_where_only_one_run_has_it(backprop: CommandLine) -> None:
    """An unambiguous prefix resumes, an ambiguous one lists what it could mean."""
    backprop.script("raise SystemExit(1)")
    for name in ("alpha-1", "alpha-2", "beta"):
        backprop("run", "train.py", "--run-id", name)
    assert backprop("resume", "be").returncode == 1
    ran = backprop("resume", "alpha")
    assert ran.returncode == 2
    assert "alpha-1" in ran.stderr
    assert "alpha-2" in ran.stderr


@pytest.mark.parametrize("what", ["script", "folder"])
def test_a_script_or_folder_that_is_gone_is_status_2(
    backprop: CommandLine, what: str, tmp_path: Path
) -> None:
    """What is missing is named, and nothing is started."""
    backprop.script("raise SystemExit(1)")
    backprop("run", "train.py", "--run-id", "gone")
    work = backprop.folder
    if what == "script":
        (work / "train.py").unlink()
    else:
        backprop.folder = tmp_path
        backprop.environment["PWD"] = str(tmp_path)
        shutil.rmtree(work)
    ran = backprop("resume", "gone")
    assert ran.returncode == 2
    assert ("train.py" if what == "script" else str(work)) in ran.stderr
    assert len(backprop.record("gone")["attempts"]) == 1


def test_changes_are_warned_of(backprop: CommandLine) -> None:
    """A changed script and a changed git commit are said before the script starts."""
    backprop.script("raise SystemExit(1)")
    git = backprop.folder / ".git"
    git.mkdir()
    (git / "HEAD").write_text("1" * 40 + "\n")
    backprop("run", "train.py", "--run-id", "changed")
    assert "changed" not in backprop("resume", "changed").stderr.replace("run changed", "").replace(
        "resume changed", ""
    )
    backprop.script("raise SystemExit(1) # now with a comment")
    (git / "HEAD").write_text("2" * 40 + "\n")
    ran = backprop("resume", "changed")
    assert "train.py has changed" in ran.stderr
    assert "git commit has changed: it was 1111111111 and is 2222222222" in ran.stderr


@pytest.mark.parametrize("how", ["--module", "--exec"])
def test_a_changed_module_or_script_behind_a_program_is_warned_of(backprop: CommandLine, how: str) -> None:
    """What is not the command's first word is looked at, too: a module's file, the script that a launcher is given."""
    backprop.script("raise SystemExit(1)")
    words = ["train"] if how == "--module" else [sys.executable, "--", "train.py"]
    backprop("run", how, "--run-id", "changed", *words)
    assert "has changed" not in backprop("resume", "changed").stderr
    backprop.script("raise SystemExit(1) # now with a comment")
    assert "train.py has changed" in backprop("resume", "changed").stderr
    assert "has changed" not in backprop("resume", "changed").stderr


def test_a_checkpoint_that_is_gone_starts_afresh_loudly(backprop: CommandLine) -> None:
    """When all remembered checkpoints have been removed the resume says in capitals that it begins anew."""
    backprop.script(ANNOUNCES)
    backprop("run", "train.py", "-m", backprop.box(1.2), "--resume-flag", "--resume", "--run-id", "lost")
    (backprop.folder / "model.pt").unlink()
    ran = backprop("resume", "lost", "-m", backprop.box(1.2))
    assert "STARTS FROM SCRATCH" in ran.stderr


def test_a_running_run_is_not_resumed(backprop: CommandLine) -> None:
    """The second process gets status 2 and learns that the run is busy."""
    backprop.script("import os, time\nopen('up', 'w')\ntime.sleep(600)")
    process = backprop.start("run", "train.py", "--run-id", "busy")
    try:
        wait_for((backprop.folder / "up").exists)
        ran = backprop("resume", "busy")
        assert ran.returncode == 2
        assert "running" in ran.stderr
    finally:
        process.terminate()
        process.communicate(timeout=240)


def test_a_run_whose_governor_was_killed_is_resumed(backprop: CommandLine) -> None:
    """After kill -9 of the governor the session saves; the run is lost, and goes on where it was."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "100"
    process = backprop.start("run", "train.py", "--run-id", "k")
    events = backprop.attempt_dir("k") / "events.jsonl"
    wait_for(lambda: events.exists() and '"progress"' in events.read_text())
    process.kill()
    process.communicate()
    wait_for(lambda: "session_finished" in events.read_text())
    wait_for(lambda: backprop.runs()[0]["status"] == "lost")
    ran = backprop("resume", "k")
    assert ran.returncode == 0, ran.stderr
    assert "STARTS FROM SCRATCH" not in ran.stderr
    record = backprop.record("k")
    assert [attempt["outcome"] for attempt in record["attempts"]] == ["lost", "completed"]
    assert record["last_step"] == 100


def test_a_dry_run_of_a_resume_changes_nothing(backprop: CommandLine) -> None:
    """It prints the command and from where it would go on; the record stays as it is."""
    backprop.script(ANNOUNCES)
    backprop("run", "train.py", "-m", backprop.box(1.2), "--resume-flag", "--resume", "--run-id", "dry")
    before = backprop.record("dry")
    ran = backprop("resume", "dry", "--dry-run")
    assert ran.returncode == 0
    assert f"--resume {backprop.folder}/model.pt" in ran.stderr
    assert backprop.record("dry") == before


def test_the_npm_tools_run_can_be_resumed(backprop: CommandLine) -> None:
    """A run known from an experiments.json of the npm tool goes on with its script and its checkpoint."""
    script = backprop.script("import os, sys; print(sys.argv[1:], os.environ.get('BACKPROP_RESUME_FROM'))")
    checkpoint = backprop.folder / "ckpt.pt"
    checkpoint.write_text("w")
    backprop.home.mkdir()
    entry = {
        "id": "npm-1",
        "name": "old",
        "scriptPath": str(script),
        "status": "timeboxed",
        "lastCheckpoint": str(checkpoint),
        "checkpoints": [str(checkpoint)],
        "lastStep": 10,
        "lastLoss": 0.5,
        "startTime": 1700000000000,
        "endTime": 1700000600000,
    }
    (backprop.home / "experiments.json").write_text(json.dumps({"npm-1": entry}))
    assert backprop.runs()[0]["name"] == "old"
    ran = backprop("resume", "npm-1", "--resume-flag", "--from")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"['--from', '{checkpoint}'] {checkpoint}\n"
    assert backprop.runs()[0]["status"] == "completed"
    assert (backprop.home / "runs" / "npm-1").is_dir()


SAVES_TWICE = """
    import os, sys
    from pathlib import Path
    from backprop_core.checkpoints import NumpyTranslator, capture
    from backprop_core.checkpoints.store import CheckpointStore
    from backprop_core.clock import SYSTEM
    from tests.backprop_core.checkpoints.states import facts
    print(sys.argv[1:], flush=True)
    if "--from" not in sys.argv:
        store = CheckpointStore(Path(os.environ["BACKPROP_CHECKPOINT_DIR"]), clock=SYSTEM)
        for step in (10, 20):
            store.commit(capture({"model": {"w": list(range(step))}}, [NumpyTranslator()]), facts(step))
        raise SystemExit(3)
"""


@pytest.fixture
def saved_twice(backprop: CommandLine) -> Path:
    """Run `d`, with a --resume-flag and two checkpoints of our own format at steps 10 and 20; their folder."""
    backprop.script(SAVES_TWICE)
    backprop.environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    ran = backprop("run", "train.py", "--run-id", "d", "--resume-flag", "--from")
    assert ran.returncode == 3, ran.stderr
    return backprop.home / "runs" / "d" / "checkpoints"


def spoil(checkpoint: Path) -> None:
    """Change one byte of the largest file of a checkpoint that is not its manifest."""
    files = [path for path in checkpoint.iterdir() if path.name != "manifest.json"]
    file = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_the_resume_flag_hands_over_the_newest_checkpoint_that_is_whole(
    backprop: CommandLine, saved_twice: Path
) -> None:
    """Every byte is read first: a damaged one is named in a line, and the script gets the one before it."""
    newest, older = saved_twice / "step-000000000020", saved_twice / "step-000000000010"
    assert backprop("resume", "d").stdout == f"['--from', '{newest}']\n"
    record = backprop.home / "runs" / "d" / "run.json"
    record.write_text(record.read_text().replace('"completed"', '"failed"'))
    spoil(newest)
    ran = backprop("resume", "d", "--dry-run")
    assert f"--from {older}" in ran.stderr
    assert f"{newest}/" in ran.stderr
    assert "Falling back to the previous checkpoint." in ran.stderr
    spoil(older)
    ran = backprop("resume", "d")
    assert ran.stdout == "[]\n"
    assert "STARTS FROM SCRATCH" in ran.stderr


def test_a_damaged_checkpoint_that_was_asked_for_is_not_handed_over(
    backprop: CommandLine, saved_twice: Path
) -> None:
    """-r of a damaged checkpoint gets status 2 and what to do; the script is not started."""
    newest = saved_twice / "step-000000000020"
    spoil(newest)
    ran = backprop("resume", "d", "-r", str(newest))
    assert ran.returncode == 2
    assert "is damaged" in ran.stderr
    assert "Leave out --resume-from" in ran.stderr
    assert len(backprop.record("d")["attempts"]) == 1


def test_a_checkpoint_that_cannot_be_resumed_from_is_refused_before_the_start(
    backprop: CommandLine, saved_twice: Path
) -> None:
    """-r of `run` takes a whole checkpoint of ours or a folder with one; a damaged one is status 2 and starts nothing."""
    backprop.script("print('ran')", "other.py")
    newest, older = saved_twice / "step-000000000020", saved_twice / "step-000000000010"
    for place in (newest, saved_twice):
        assert backprop("run", "other.py", "-r", str(place)).stdout == "ran\n"
    spoil(newest)
    ran = backprop("run", "other.py", "-r", str(newest))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "is damaged" in ran.stderr
    assert backprop("run", "other.py", "-r", str(saved_twice)).stdout == "ran\n"  # the older one is whole
    spoil(older)
    assert backprop("run", "other.py", "-r", str(saved_twice)).returncode == 2


def test_one_line_starts_a_run_and_resumes_it(backprop: CommandLine) -> None:
    """`run --run-id X --resume-or-start` starts, then resumes with what the run was started with, then has nothing to do."""
    backprop.script(
        """
        import os, sys
        print(os.environ["BACKPROP_ATTEMPT"], os.environ.get("BACKPROP_RESUME", "-"), os.environ["BACKPROP_BUDGET_S"])
        raise SystemExit(3 if os.environ["BACKPROP_ATTEMPT"] == "1" else 0)
        """
    )
    backprop.script("print('hello')", "other.py")
    line = ("run", "train.py", "--run-id", "nightly", "--resume-or-start")
    first = backprop(*line, "-m", "5", "--", "x")
    assert (first.returncode, first.stdout) == (3, "1 - 300.0\n")
    second = backprop(*line, "--", "x")
    assert (second.returncode, second.stdout) == (0, "2 1 300.0\n")
    third = backprop(*line, "--json", "--", "x")
    assert third.returncode == 0
    assert json.loads(third.stdout)["outcome"] == "completed"
    assert len(backprop.record("nightly")["attempts"]) == 2
    assert backprop("run", "other.py", "--run-id", "night", "--resume-or-start").stdout == "hello\n"


def test_another_command_does_not_resume_a_run(backprop: CommandLine) -> None:
    """With other arguments --resume-or-start is status 2 and names both commands; from another folder it is the same run."""
    backprop.script("raise SystemExit(3)")
    line = ("run", str(backprop.folder / "train.py"), "--run-id", "same", "--resume-or-start", "--")
    assert backprop("run", "train.py", "--run-id", "same", "--", "1").returncode == 3
    ran = backprop(*line, "2")
    assert ran.returncode == 2
    assert "'train.py 1'" in ran.stderr
    assert "train.py 2'" in ran.stderr
    assert len(backprop.record("same")["attempts"]) == 1
    assert backprop(*line, "1").returncode == 3
    assert len(backprop.record("same")["attempts"]) == 2
