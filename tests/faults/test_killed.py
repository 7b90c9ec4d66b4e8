"""(a) SIGKILL at every system call of a save."""

from __future__ import annotations

import pytest

from .tracing import Call, Saver, assert_nothing_lost


@pytest.mark.faults
def test_a_kill_at_any_system_call_loses_nothing(saver: Saver) -> None:
    """Killed at each system call that touches the folder: the newest committed state comes back bit for bit."""
    calls = saver.calls()
    assert {"openat", "write", "writev", "fsync", "close", "rename"} <= {call.name for call in calls}
    restored: list[int] = []
    for call in calls:
        outcome = saver.broken("signal=KILL", call)
        restored.append(assert_nothing_lost(saver.folder, outcome, call))
    assert set(restored) == {1, 2, 3, 4}
    print(f"{len(calls)} kills")


@pytest.mark.faults
def test_a_kill_among_the_flushing_threads_loses_nothing(saver: Saver) -> None:
    """The same with the threads that flush: killed at their first calls, and at the main thread's."""
    for name in ("fsync", "close", "write", "writev", "rename", "openat"):
        for number in range(1, 9):
            outcome = saver.broken("signal=KILL", Call(name, number), "threads")
            assert_nothing_lost(saver.folder, outcome, (name, number))


@pytest.mark.parametrize(
    "call",
    [Call("write", 3), Call("writev", 2), Call("fsync", 2), Call("rename", 1), Call("rename", 2)],
    ids=str,
)
def test_a_killed_save_loses_nothing(saver: Saver, call: Call) -> None:
    """Four of those kills, fast enough for every day: in a file, while flushing, at the commit, at the
    retention.
    """
    outcome = saver.broken("signal=KILL", call)
    assert_nothing_lost(saver.folder, outcome, call)
