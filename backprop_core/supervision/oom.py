"""Whether the kernel killed for memory: its own counters before and after, and who was largest.

`/proc/vmstat` counts kills of the machine's out-of-memory killer (`oom_kill`, see Documentation/admin-guide/sysctl/vm.rst
of Linux), `memory.events` (cgroup v2) and `memory.oom_control` (v1) those of a container or job.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from backprop_core.supervision.monitor import resident_bytes

_GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class KillCounts:
    """Kills so far; None where the kernel does not tell."""

    machine: int | None
    group: int | None


def kill_counts() -> KillCounts:
    """The kernel's counters now."""
    return KillCounts(_field(Path("/proc/vmstat"), "oom_kill"), _group_kills())


def explain(before: KillCounts, after: KillCounts, own_bytes: int) -> str | None:
    """A sentence if the kernel has killed for memory between two moments, else None.

    Args:
        own_bytes: what the script had resident when it was last looked at.
    """
    own = f"the script had {own_bytes / 1024**3:.2f} GB"
    if _rose(before.group, after.group):
        return f"The kernel killed it because its container or job (cgroup) was out of memory; {own}."
    if _rose(before.machine, after.machine):
        return f"The kernel killed it because the machine was out of memory; {own}, {_largest()}."
    return None


def _rose(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and after > before


def _largest() -> str:
    """The largest process that is still there."""
    best = (0, "")
    for entry in os.listdir("/proc"):  # noqa: PTH208 - thousands of entries
        if entry.isdecimal():
            size = resident_bytes(int(entry))
            best = max(best, (size, entry))
    size, pid = best
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "the largest other process is gone too"
    return f"the largest other process is {name} ({pid}) with {size / 1024**3:.2f} GB"


def _group_kills() -> int | None:
    for folder, name in _own_groups():
        count = _field(folder / name, "oom_kill")
        if count is not None:
            return count
    return None


def _own_groups() -> list[tuple[Path, str]]:
    """The files that may count this process's group's kills, most specific first."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    places = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        inner = path.lstrip("/")
        if not controllers:
            places += [(_GROUPS / inner, "memory.events"), (_GROUPS, "memory.events")]
        elif "memory" in controllers.split(","):
            root = _GROUPS / "memory"
            places += [(root / inner, "memory.oom_control"), (root, "memory.oom_control")]
    return places


def _field(path: Path, name: str) -> int | None:
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        return None
    return None
