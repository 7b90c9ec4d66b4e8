"""SIGTERM, SIGUSR1 and Ctrl-C in real processes: a checkpoint, the right outcome, and the script's own handlers kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.backprop_torch.cutting import environment

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the child in a mode and waits until it trains; whatever is left of it is ended afterwards."""
    children = []

    def begin(mode: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.backprop_torch.loop_that_listens", mode],
            env=environment(tmp_path),
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        return child

    yield begin
    for child in children:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


@pytest.mark.parametrize(
    ("number", "outcome"),
    [(signal.SIGTERM, "preempted"), (signal.SIGUSR1, "preempted"), (signal.SIGINT, "stopped")],
)
def test_a_signal_ends_the_block_with_a_checkpoint(
    start: Start, number: signal.Signals, outcome: str
) -> None:
    """The block is left within the grace, a checkpoint is there, and the code behind the block goes on."""
    child = start("plain")
    child.send_signal(number)
    out, err = child.communicate(timeout=240)
    assert out == f"left: {outcome}, checkpoint True\n", err
    assert child.returncode == 0


def test_a_kill_long_before_the_grace_is_over_costs_what_came_behind_the_signal(
    start: Start, tmp_path: Path
) -> None:
    """SIGTERM, and SIGKILL as soon as there is a checkpoint (docker: after 10 s of the 30): nothing before is lost."""
    child = start("patient")
    child.send_signal(signal.SIGTERM)
    assert child.stdout is not None
    at = int(child.stdout.readline())
    saved = tmp_path / "home/runs/listening/checkpoints"
    while not (found := [*saved.glob("step-*/manifest.json")]):
        assert child.poll() is None
    child.kill()
    assert child.wait(60) == -signal.SIGKILL
    assert min(int(path.parent.name.split("-")[1]) for path in found) >= at


def test_a_handler_of_the_scripts_own_keeps_sigusr1_and_gets_sigterm_back(start: Start) -> None:
    """SIGUSR1 is the script's own and stays so; SIGTERM is the box's until the block is left."""
    child = start("own_usr1")
    child.send_signal(signal.SIGUSR1)
    assert child.stdout is not None
    assert child.stdout.readline() == "mine\n"
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=240)
    assert out == "left: preempted, checkpoint True\nmy SIGTERM\n"
    assert "SIGUSR1 has a handler in the script" in err


def test_a_library_that_requeues_the_job_has_its_turn_behind_our_save(start: Start, tmp_path: Path) -> None:
    """submitit's handler ends the process wherever it is: a checkpoint comes first, and the signal it ignores is ignored."""
    child = start("requeued")
    child.send_signal(signal.SIGTERM)
    assert child.stdout is not None
    assert child.stdout.readline() == "let pass\n"
    child.send_signal(signal.SIGUSR2)
    out, err = child.communicate(timeout=60)
    assert out == "requeued, checkpoint True\n", err
    assert child.returncode == 255
    assert "SIGUSR2 is submitit's" in err
    record = json.loads((tmp_path / "home/runs/listening/run.json").read_text())
    assert record["status"] == "preempted"


def test_ctrl_c_twice_leaves_now(start: Start) -> None:
    """The first waits for a boundary that does not come; the second is an ordinary KeyboardInterrupt."""
    child = start("long_step")
    child.send_signal(signal.SIGINT)
    assert child.stdout is not None
    assert child.stdout.readline() == "heard\n"
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=240)
    assert "KeyboardInterrupt" in err
    assert child.returncode == -signal.SIGINT


def test_a_sigterm_to_the_whole_group_kills_the_loaders_workers_and_is_still_the_stop_it_is(
    start: Start,
) -> None:
    """The RuntimeError of the killed workers does not reach the script; the state of the last boundary is saved."""
    child = start("workers")
    os.killpg(child.pid, signal.SIGTERM)
    out, err = child.communicate(timeout=240)
    assert out == "left: preempted, checkpoint True, seen True\n", err
    assert "Traceback" not in err
    assert child.returncode == 0
