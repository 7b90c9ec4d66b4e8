"""Scripts that train in a process which they start: attached, cut, and resumed like any other."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backprop_core.session.attach_rules import is_helper
from tests.backprop_cli.commandline import CommandLine, end, wait_for
from tests.backprop_startup.cutting import cut, events, resumed, whole

SCRIPT = Path(__file__).with_name("child_training.py")
SLOWLY = ("--pause", "0.1")


@pytest.mark.parametrize(
    ("argv", "helper"),
    [
        ([sys.executable, "multiprocessing_train.py"], False),
        ([sys.executable, "-u", "train.py", "--backend", "multiprocessing"], False),
        ([sys.executable, "train.py", "-c", "from multiprocessing.resource_tracker import main"], False),
        ([sys.executable, "-m", "loky_benchmarks.train", "-m", "x.popen_loky_posix"], False),
        ([sys.executable, "-W", "ignore", "-X", "dev", "-m", "train"], False),
        ([sys.executable], False),
        (
            [
                sys.executable,
                "-c",
                "from multiprocessing.spawn import spawn_main; spawn_main()",
                "--multiprocessing-fork",
            ],
            False,
        ),
        ([sys.executable, "-c", "from multiprocessing.forkserver import main; main(1)"], False),
        ([sys.executable, "-c", "from multiprocessing.resource_tracker import main;main(5)"], True),
        (
            [
                sys.executable,
                "-s",
                "-Xdev",
                "-Bc",
                "from multiprocessing.resource_tracker import main;main(5)",
            ],
            True,
        ),
        (
            [sys.executable, "-m", "joblib.externals.loky.backend.popen_loky_posix", "--process-name", "L"],
            True,
        ),
        ([sys.executable, "-mjoblib.externals.loky.backend.popen_loky_posix"], True),
    ],
)
def test_a_process_is_judged_by_what_it_runs(argv: list[str], helper: bool) -> None:
    """Not by a word that its script, module or arguments happen to hold."""
    assert is_helper(argv) is helper


def test_a_script_called_multiprocessing_is_attached(backprop: CommandLine) -> None:
    """Its name, and an argument of that name, switch nothing off."""
    script = backprop.script(
        """
        import torch
        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(20):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
        """,
        "multiprocessing_train.py",
    )
    done = backprop("run", str(script), "--run-id", "named", "--", "loky", timeout=240)
    assert done.returncode == 0, done.stderr
    assert [e["attached"] for e in events(backprop, "named") if e["kind"] == "session_started"] == [True]


def _trace(backprop: CommandLine, name: str) -> list[str]:
    return (backprop.folder / name).read_text().splitlines()


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("fork", marks=pytest.mark.long),
        *(pytest.param(how, marks=pytest.mark.faults) for how in ("spawn", "forkserver", "torch")),
    ],
)
def test_a_training_in_a_child_is_cut_and_goes_on_with_the_same_bits(backprop: CommandLine, how: str) -> None:
    """The parent is ended with it, and does not go on as if the training were over; the resumed steps are the uncut ones."""
    assert whole(backprop, SCRIPT, how, "--trace", "whole").returncode == 0
    cut(backprop, "cut", SCRIPT, how, "--trace", "cut", *SLOWLY)
    steps = len(_trace(backprop, "cut-0"))
    assert 0 < steps < 32
    assert b"the parent goes on" not in (backprop.attempt_dir("cut") / "output.log").read_bytes()
    assert backprop.record("cut")["status"] == "stopped"
    (started,) = [e for e in events(backprop, "cut") if e["kind"] == "session_started"]
    assert started["attached"]
    assert started["child_of"] != started["pid"]
    done = resumed(backprop, "cut")
    assert _trace(backprop, "cut-0")[:32] == _trace(backprop, "whole-0")
    assert "the parent goes on" in done.stdout
    assert backprop.record("cut")["status"] == "completed"


@pytest.mark.faults
def test_ranks_that_torch_has_spawned_are_one_run(backprop: CommandLine) -> None:
    """Both stop after the same step, and go on with the uncut losses, each with its own random numbers."""
    assert whole(backprop, SCRIPT, "ranks", "--trace", "whole").returncode == 0
    cut(backprop, "cut", SCRIPT, "ranks", "--trace", "cut", *SLOWLY)
    assert 0 < len(_trace(backprop, "cut-0")) == len(_trace(backprop, "cut-1")) < 32
    resumed(backprop, "cut")
    for rank in (0, 1):
        assert _trace(backprop, f"cut-{rank}")[:32] == _trace(backprop, f"whole-{rank}")


@pytest.mark.faults
def test_the_deadline_ends_a_training_in_a_child(backprop: CommandLine) -> None:
    """The box ends in time with a checkpoint and status 0, and the script's main process does not go on."""
    began = time.monotonic()
    assert whole(backprop, SCRIPT, "fork", "--epochs", "1").returncode == 0
    box_s = 4 * (time.monotonic() - began) + 5  # on a busy machine the imports alone take long
    done = backprop(
        "run",
        str(SCRIPT),
        "-m",
        f"{box_s:.0f}s",
        "--run-id",
        "box",
        "--",
        "fork",
        "--epochs",
        "100000",
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert "the parent goes on" not in done.stdout
    assert "Traceback" not in done.stderr
    record = backprop.record("box")
    assert record["status"] == "timeboxed"
    assert record["attempts"][0]["measured"]["governor"]["unused_s"] > 0
    assert record["last_checkpoint"]


@pytest.mark.faults
def test_workers_of_a_loader_in_a_child_do_no_harm(backprop: CommandLine) -> None:
    """A child with loader workers of its own completes; only it has a session, which ends with its training."""
    done = backprop(
        "run", str(SCRIPT), "--run-id", "w", "--", "spawn", "--epochs", "2", "--workers", "2", timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "the parent goes on" in done.stdout
    kinds = [e["kind"] for e in events(backprop, "w")]
    assert (kinds.count("session_started"), kinds.count("session_finished")) == (1, 1)
    assert backprop.record("w")["last_step"] == 16


@pytest.mark.faults
def test_two_children_that_train_at_once_are_told_that_one_is_saved(backprop: CommandLine) -> None:
    """They are no ranks of one training: the second is told while it begins; a resume restores nothing and says why."""
    line = ("run", str(SCRIPT), "-m", "5", "--run-id", "two", "--", "beside", "--epochs", "400", *SLOWLY)
    err = _stopped(backprop, line, (backprop.attempt_dir("two") / "several-trainings").exists)
    assert err.count("what this one trains is not saved") == 1
    err = _stopped(
        backprop, ("resume", "two"), lambda: any(e["kind"] == "progress" for e in events(backprop, "two", 2))
    )
    assert "so nothing is restored" in err
    (started,) = [e for e in events(backprop, "two", 2) if e["kind"] == "session_started"]
    assert started["resumed_from"] is None


def _stopped(backprop: CommandLine, line: tuple[str, ...], when: Callable[[], bool]) -> str:
    """What a command says on standard error that is stopped when something has come about."""
    child = backprop.start(*line)
    try:
        wait_for(when, 180)
        assert backprop("stop", "two").returncode == 0
        return child.communicate(timeout=240)[1]
    finally:
        end(child)
