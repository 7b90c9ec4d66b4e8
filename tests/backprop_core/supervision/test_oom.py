from __future__ import annotations

from backprop_core.supervision.oom import KillCounts, explain, kill_counts


def test_a_kill_of_the_container_is_told_from_one_of_the_machine() -> None:
    """Whose counter rose decides, the container's first; nothing is said where none did, or none is known."""
    gigabyte = 1024**3
    group = explain(KillCounts(3, 1), KillCounts(4, 2), 2 * gigabyte)
    assert group is not None
    assert "cgroup" in group
    assert "2.00 GB" in group
    machine = explain(KillCounts(3, 1), KillCounts(4, 1), gigabyte)
    assert machine is not None
    assert "the machine was out of memory" in machine
    assert "largest other process is" in machine
    assert explain(KillCounts(3, 1), KillCounts(3, 1), 0) is None
    assert explain(KillCounts(None, None), KillCounts(4, 2), 0) is None


def test_the_kernel_tells_its_counts_here() -> None:
    """On Linux the machine's counter can be read."""
    assert (kill_counts().machine or 0) >= 0
