"""`backprop run` with scripts that never heard of backprop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from backprop_startup.path_entry import FOLDER
from tests.backprop_cli.commandline import CommandLine, gone, number_in

SAYS_ALL = """
    import json, os, sys
    env = {k: v for k, v in os.environ.items() if not k.startswith("BACKPROP_")}
    seen = {"argv": sys.argv, "cwd": os.getcwd(), "env": env, "stdin": sys.stdin.read(), "path": sys.path}
    print(json.dumps(seen))
"""


def test_a_script_sees_what_it_sees_without_backprop(backprop: CommandLine) -> None:
    """argv, folder, stdin, sys.path and environment are as in a bare start, but for BACKPROP_*, our PYTHONPATH entry and the
    run's hash seed.
    """
    backprop.environment["PYTHONPATH"] = str(backprop.folder / "lib")
    backprop.script(SAYS_ALL)
    bare = subprocess.run(
        [sys.executable, "train.py", "--lr", "0.1", "-m", "x y"],
        cwd=backprop.folder,
        env=backprop.environment,
        input="hello\n",
        capture_output=True,
        text=True,
        check=True,
    )
    ran = backprop("run", "train.py", "--", "--lr", "0.1", "-m", "x y", stdin="hello\n")
    assert ran.returncode == 0, ran.stderr
    with_us, without = json.loads(ran.stdout), json.loads(bare.stdout)
    without["env"]["PYTHONPATH"] = os.pathsep.join([FOLDER, without["env"]["PYTHONPATH"]])
    assert int(with_us["env"].pop("PYTHONHASHSEED")) >= 0
    assert "PYTHONHASHSEED" not in without["env"]
    assert with_us == without


def test_output_is_passed_on_byte_for_byte_and_kept(backprop: CommandLine) -> None:
    """stdout stays stdout and stderr stays stderr, also when both are large, and output.log has both."""
    backprop.script(
        """
        import sys
        sys.stdout.buffer.write(b"\\x00\\xff" * 100_000)
        sys.stderr.write("e" * 100_000)
        """
    )
    ran = backprop("run", "train.py", "--run-id", "a", errors="surrogateescape")
    assert ran.stdout.encode("utf-8", "surrogateescape") == b"\x00\xff" * 100_000
    assert "e" * 100_000 in ran.stderr
    log = (backprop.attempt_dir("a") / "output.log").read_bytes()
    assert log.count(b"\xff") == 100_000
    assert log.count(b"e") == 100_000


def test_exit_status_is_the_scripts_own(backprop: CommandLine) -> None:
    """A failing script's status becomes the command's, and the run is failed with the exception's last
    line.
    """
    backprop.script("raise SystemExit(7)")
    assert backprop("run", "train.py", "--run-id", "seven").returncode == 7
    backprop.script("import pathlib\nraise ValueError('the third layer is missing')")
    assert backprop("run", "train.py", "--run-id", "error").returncode == 1
    attempt = backprop.record("error")["attempts"][0]
    assert attempt["outcome"] == "failed"
    assert "ValueError: the third layer is missing" in attempt["reason"]


def test_a_signal_gives_128_plus_its_number(backprop: CommandLine) -> None:
    """A script that something else kills gives 128+n, and the reason names the signal."""
    backprop.script("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    ran = backprop("run", "train.py", "--run-id", "killed")
    assert ran.returncode == 137
    assert "SIGKILL" in backprop.record("killed")["attempts"][0]["reason"]


def test_a_script_that_ignores_the_time_is_ended_in_time(backprop: CommandLine) -> None:
    """A script without a SIGTERM handler is gone before its deadline, used nearly all of it, and the status
    is 124.
    """
    backprop.script("import os, time\nopen('pid', 'w').write(str(os.getpid()))\nwhile True: time.sleep(0.1)")
    ran = backprop("run", "train.py", "-m", backprop.box(1.8), "--run-id", "late")
    assert ran.returncode == 124
    governor = backprop.record("late")["attempts"][0]["measured"]["governor"]
    assert 0 < governor["unused_s"] < 0.5
    assert gone(number_in(backprop.folder / "pid") or 0)
    assert backprop.runs()[0]["status"] == "timeboxed"


def test_a_script_that_catches_sigterm_gets_a_tenth_of_the_budget(backprop: CommandLine) -> None:
    """SIGTERM comes a part of the budget early, so that the script can save; what it announces is
    remembered.
    """
    backprop.script(
        """
        import json, signal, sys, time
        def save(number, frame):
            open("model.bin", "w").write("weights")
            print(json.dumps({"event": "checkpoint_saved", "path": "model.bin"}), flush=True)
            sys.exit(0)
        signal.signal(signal.SIGTERM, save)
        while True: time.sleep(0.01)
        """
    )
    ran = backprop("run", "train.py", "-m", backprop.box(3), "--run-id", "saves")
    assert ran.returncode == 0, ran.stderr
    record = backprop.record("saves")
    assert record["status"] == "timeboxed"
    assert record["last_checkpoint"] == str(backprop.folder / "model.bin")
    assert 0 < record["attempts"][0]["measured"]["governor"]["unused_s"] < 0.6


def test_a_script_that_refuses_to_end_is_killed_with_all_it_started(backprop: CommandLine) -> None:
    """SIGTERM ignored, a grandchild in a session of its own, a daemon: all of it is gone before the
    deadline.
    """
    backprop.script(
        """
        import os, signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, lambda *_: None)
        children = [
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=own)
            for own in (False, True)
        ]
        subprocess.run(["sh", "-c", "setsid sleep 600 & echo $!"], stdout=open("o", "w"))
        pids = [os.getpid(), *(c.pid for c in children), int(open("o").read())]
        open("pids", "w").write(" ".join(map(str, pids)))
        while True: time.sleep(0.1)
        """
    )
    ran = backprop("run", "train.py", "-m", backprop.box(3), "--run-id", "stubborn")
    assert ran.returncode == 124
    pids = [int(pid) for pid in (backprop.folder / "pids").read_text().split()]
    assert len(pids) == 4
    assert all(gone(pid) for pid in pids)
    assert backprop.record("stubborn")["attempts"][0]["measured"]["governor"]["unused_s"] > 0


def test_an_orphan_that_holds_the_pipe_does_not_hold_the_command(backprop: CommandLine) -> None:
    """A worker left behind by a finished script neither delays the end nor survives it."""
    backprop.script(
        """
        import subprocess
        child = subprocess.Popen(["sleep", "600"])
        print("child", child.pid, flush=True)
        """
    )
    start_s = backprop.start_s
    begun = time.monotonic()
    ran = backprop("run", "train.py")
    assert ran.returncode == 0
    assert time.monotonic() - begun < 5.0 + 5 * start_s  # the orphan holds the pipe for ten minutes
    assert gone(int(ran.stdout.split()[1]))


def test_json_lines_on_stdout_are_data(backprop: CommandLine) -> None:
    """Step, loss and checkpoint paths are remembered; broken or hostile lines change nothing and stay in the
    log.
    """
    backprop.script(
        """
        open("a.pt", "w").write("x"); open("b.pt", "w").write("y")
        print('{"step": 3, "loss": 0.5}')
        print('{"event": "checkpoint_saved", "path": "a.pt"}')
        print('{"event": "checkpoint_saved", "path": 7}')
        print('{"event": "checkpoint_saved", "path": "b\\\\u0000"}')
        print('{"step": "many", "loss": NaN}')
        print('{"step": -1}')
        print('{broken')
        print('[' * 100000)
        print('{"a":' * 5000 + '1' + '}' * 5000)
        print('epoch 1 \\r{"step": 4, "loss": 0.25}')
        print('{"event": "checkpoint_saved", "path": "b.pt"}')
        """
    )
    ran = backprop("run", "train.py", "--run-id", "speaks")
    assert ran.returncode == 0, ran.stderr
    record = backprop.record("speaks")
    assert (record["last_step"], record["last_loss"]) == (4, 0.25)
    assert record["checkpoints"] == [str(backprop.folder / name) for name in ("a.pt", "b.pt")]
    assert "{broken" in (backprop.attempt_dir("speaks") / "output.log").read_text()


def test_the_contract_variables_reach_the_script_and_nobody_elses(backprop: CommandLine) -> None:
    """The script gets this run's BACKPROP_* variables, also where the command itself stands in another
    run.
    """
    backprop.script(
        "import os, json; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('BACKPROP_')}))"
    )
    backprop.environment |= {"BACKPROP_RESUME": "1", "BACKPROP_RUN_ID": "other", "BACKPROP_RESUME_FROM": "/x"}
    ran = backprop("run", "train.py", "--run-id", "mine", "-m", "5", "-c", "2", "--grace", "7")
    told = json.loads(ran.stdout)
    assert told["BACKPROP_RUN_ID"] == "mine"
    assert told["BACKPROP_RUN_DIR"] == str(backprop.home / "runs" / "mine")
    assert told["BACKPROP_ATTEMPT"] == "1"
    assert float(told["BACKPROP_BUDGET_S"]) == 300
    assert float(told["BACKPROP_CHECKPOINT_EVERY_S"]) == 120
    assert float(told["BACKPROP_GRACE_S"]) == 7
    assert float(told["BACKPROP_DEADLINE_MONOTONIC"]) > time.monotonic()
    assert not {"BACKPROP_RESUME", "BACKPROP_RESUME_FROM"} & told.keys()


def test_a_dry_run_does_nothing(backprop: CommandLine) -> None:
    """--dry-run names the command and the settings; no script runs and no folder is made."""
    backprop.script("open('ran', 'w')")
    ran = backprop("run", "train.py", "--dry-run", "-m", "3", "--", "--lr", "0.1")
    assert ran.returncode == 0
    assert "train.py --lr 0.1" in ran.stderr
    assert "--max-run-minutes" in ran.stderr
    assert not (backprop.folder / "ran").exists()
    assert not backprop.home.exists()


def test_python_chooses_the_interpreter(backprop: CommandLine, tmp_path: Path) -> None:
    """--python runs the script with another interpreter; one that does not exist is a usage error."""
    wrapper = tmp_path / "snake"
    wrapper.write_text(f'#!/bin/sh\nWRAPPED=yes exec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    backprop.script("import os; print(os.environ.get('WRAPPED'))")
    ran = backprop("run", "train.py", "--python", str(wrapper))
    assert ran.stdout == "yes\n"
    ran = backprop("run", "train.py", "--python", "/nowhere/python")
    assert ran.returncode == 2
    assert "/nowhere/python" in ran.stderr


def test_run_id_and_name_are_kept_and_an_id_is_used_once(backprop: CommandLine) -> None:
    """The run is listed under its id and name, and the same id again is a usage error that says how to go
    on.
    """
    backprop.script("")
    assert backprop("run", "train.py", "--run-id", "one", "-n", "first try").returncode == 0
    (row,) = backprop.runs()
    assert (row["id"], row["name"], row["status"]) == ("one", "first try", "completed")
    again = backprop("run", "train.py", "--run-id", "one")
    assert again.returncode == 2
    assert "one" in again.stderr
    experiments = json.loads((backprop.home / "experiments.json").read_text())
    assert experiments["one"]["status"] == "completed"


def test_timeboxed_exit_code_changes_only_an_end_that_can_be_resumed(backprop: CommandLine) -> None:
    """With a checkpoint the chosen status is given, without one it stays 124."""
    backprop.script(
        """
        import json, os, sys, time
        if len(sys.argv) > 1:
            open("m", "w").write("w")
            print(json.dumps({"event": "checkpoint_saved", "path": "m"}), flush=True)
        while True: time.sleep(0.1)
        """
    )
    assert (
        backprop("run", "train.py", "-m", backprop.box(1.2), "--timeboxed-exit-code", "99").returncode == 124
    )
    assert (
        backprop(
            "run", "train.py", "-m", backprop.box(1.2), "--timeboxed-exit-code", "99", "--", "x"
        ).returncode
        == 99
    )


def test_our_lines_do_not_stand_behind_a_part_of_the_scripts(backprop: CommandLine) -> None:
    """Where both go to one place, a line that the script has not ended is ended before ours; the log stays as it was."""
    backprop.script("print('no line feed', end='', flush=True)")
    arguments = ("run", "train.py", "--run-id", "torn")
    with backprop.start(*arguments, stderr=subprocess.STDOUT) as process:
        out, _ = process.communicate(timeout=240)
    assert "no line feed\nbackprop: completed" in out
    assert (backprop.attempt_dir("torn") / "output.log").read_text() == "no line feed"
    with backprop.start("run", "train.py") as process:
        out, err = process.communicate(timeout=240)
    assert out == "no line feed"
    assert "\n\n" not in err


def test_escape_sequences_of_a_script_reach_no_terminal(backprop: CommandLine) -> None:
    """A path that the script has announced is shown without what would move the cursor, by every command that names it."""
    name = "\x1b]0;title\x07\x1b[2Jx.pt"
    backprop.script(
        f"""
        import json
        name = {name!r}
        open(name, "w").write("1")
        print(json.dumps({{"event": "checkpoint_saved", "path": name}}))
        raise SystemExit(3)
        """
    )
    assert backprop("run", "train.py", "--run-id", "esc", "--resume-flag", "--from").returncode == 3
    for command in (
        ["status", "esc"],
        ["checkpoints", "esc"],
        ["verify", "esc"],
        ["resume", "esc", "--dry-run"],
        ["resume", "esc"],
    ):
        shown = backprop(*command)
        ours = shown.stderr if command == ["resume", "esc"] else shown.stdout + shown.stderr
        assert "x.pt" in ours
        assert not set("\x1b\x07") & set(ours), command
