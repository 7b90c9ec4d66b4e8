from __future__ import annotations

import os

import pytest

from backprop_core.governor import oom
from backprop_core.governor.observed import EndCause
from backprop_core.governor.oom import KillCounts, _largest, explain, explained, kill_counts
from backprop_core.governor.verdict import Verdict
from backprop_core.outcome import Outcome

from .test_verdict import ending


def test_a_kill_of_the_container_is_told_from_one_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose counter rose decides, the container's first; nothing is said where none did, or none is known."""
    monkeypatch.setattr(oom, "_WORTH_NAMING_BYTES", 1)  # an idle machine has no large process
    gigabyte = 1024**3
    group = explain(KillCounts(3, 1), KillCounts(4, 2), 2 * gigabyte)
    assert group is not None
    assert "cgroup" in group
    assert "2.00 GB" in group
    machine = explain(KillCounts(3, 1), KillCounts(4, 1), gigabyte)
    assert machine is not None
    assert "the machine, or a container on it, was out of memory" not in machine
    assert "the machine was out of memory" in machine
    assert "largest other process is" in machine
    assert explain(KillCounts(3, 1), KillCounts(3, 1), 0) is None
    assert explain(KillCounts(None, None), KillCounts(4, 2), 0) is None


def test_the_largest_process_is_never_ourselves() -> None:
    """Who is blamed beside the script is somebody else, and in a group of small ones nobody."""
    assert _largest([os.getpid()]) == ""
    machine = explain(KillCounts(3, 1), KillCounts(4, 1), 0)
    assert machine is not None
    assert f"({os.getpid()})" not in machine


@pytest.mark.parametrize(
    ("facts", "begins"),
    [
        ({"returncode": -9}, "The kernel killed it because its container or job"),
        ({"returncode": -9, "cause": EndCause.MEMORY}, "The kernel killed it because its container or job"),
        (
            {
                "returncode": 1,
                "tail": b"RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed.\n",
            },
            "It failed. Likely cause: the kernel killed a process because its container",
        ),
        ({"returncode": 1, "tail": b"ValueError: no such column\n"}, "It failed."),
        ({"returncode": 137}, "It failed. Likely cause: the kernel killed a process because its container"),
        ({"returncode": -9, "killed": True}, "It failed."),
        ({"returncode": -15, "cause": EndCause.DEADLINE}, "It failed."),
        ({"returncode": 1, "cause": EndCause.USER}, "It failed."),
        ({"returncode": -11}, "It failed."),
        ({"returncode": 0}, "It failed."),
    ],
)
def test_a_killed_worker_explains_a_failure_and_nothing_else(facts: dict[str, object], begins: str) -> None:
    """A loader's worker or a shell's child that the kernel took is named as the likely cause; our own ends are our own."""
    verdict = Verdict(Outcome.FAILED, "It failed.", 1)
    told = explained(verdict, ending(**facts), KillCounts(3, 1), KillCounts(4, 2), 0)
    assert told.reason.startswith(begins)
    assert (told.reason == "It failed.") == (begins == "It failed.")
    unchanged = explained(verdict, ending(**facts), KillCounts(3, 1), KillCounts(3, 1), 0)
    assert unchanged == verdict


def test_the_kernel_tells_its_counts_here() -> None:
    """On Linux the machine's counter can be read."""
    counted = kill_counts().machine
    assert counted is not None
    assert counted >= 0
