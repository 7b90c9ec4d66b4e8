"""Whether the kernel killed for memory: its own counters before and after, and who was largest.

`/proc/vmstat` counts kills of the machine's out-of-memory killer (`oom_kill`, see Documentation/admin-guide/sysctl/vm.rst
of Linux), `memory.events` (cgroup v2) and `memory.oom_control` (v1) those of a container or job.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from backprop_core.governor.monitor import resident_bytes
from backprop_core.governor.observed import Ending
from backprop_core.governor.verdict import Verdict
from backprop_core.quick_dataclass import dataclass

_GROUPS = Path("/sys/fs/cgroup")
_WORTH_NAMING_BYTES = 64 * 1024**2
_OF_A_SHELL = 128 + signal.SIGKILL
"""The status of a shell or a launcher whose last process was killed."""
_LOST = re.compile(
    rb"kill|signal[: ]*9\b|exitcode[: ]*-9|exited unexpectedly|died|terminated|BrokenProcessPool|EOFError|Broken ?Pipe"
    rb"|Connection ?(?:Reset|closed)|out of memory",
    re.IGNORECASE,
)
"""What loaders, process pools, launchers and shells print when one of their processes was killed."""
_LAST_WORDS_BYTES = 4096


@dataclass(frozen=True, slots=True)
class KillCounts:
    """Kills so far; None where the kernel does not tell."""

    machine: int | None
    group: int | None


def kill_counts() -> KillCounts:
    """The kernel's counters now."""
    return KillCounts(_field(Path("/proc/vmstat"), "oom_kill"), _group_kills())


def explained(
    verdict: Verdict, ending: Ending, before: KillCounts, after: KillCounts, own_bytes: int
) -> Verdict:
    """The verdict with the kernel's part in it: none where no counter rose, or where we or the script ended it.

    Args:
        own_bytes: what the script had resident when it was last looked at.
    """
    if ending.killed or ending.returncode == 0:
        return verdict
    itself = ending.returncode == -signal.SIGKILL
    if not itself and (ending.cause is not None or ending.returncode < 0 or not _lost_a_process(ending)):
        return verdict
    why = explain(before, after, own_bytes, itself=itself)
    if why is None:
        return verdict
    return replace(verdict, reason=why if itself else f"{verdict.reason} {why}")


def _lost_a_process(ending: Ending) -> bool:
    """Whether the script's last words, or its status, tell of a process that was killed. The machine's counter rises for
    every container on it: a script that failed for another reason then has nothing to do with it.
    """
    return ending.returncode == _OF_A_SHELL or bool(_LOST.search(ending.tail[-_LAST_WORDS_BYTES:]))


def explain(before: KillCounts, after: KillCounts, own_bytes: int, *, itself: bool = True) -> str | None:
    """A sentence if the kernel has killed for memory between two moments, else None.

    Args:
        own_bytes: what the script had resident when it was last looked at.
        itself: the script was killed; else one of its processes may have been, which is the likely cause of its failure.
    """
    group = _rose(before.group, after.group)
    if not group and not _rose(before.machine, after.machine):
        return None
    where = "its container or job (cgroup)" if group else "the machine"
    if not group and not itself:
        where += ", or a container on it,"
    facts = f"the script used {own_bytes / 1024**3:.2f} GB{_largest(_group_members() if group else None)}"
    if itself:
        return f"The kernel killed it because {where} was out of memory; {facts}."
    return f"Likely cause: the kernel killed a process because {where} was out of memory; {facts}."


def _rose(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and after > before


def _largest(pids: Iterable[int] | None) -> str:
    """The largest process that is still there, of some or of the whole machine, never ourselves; empty if all are small."""
    if pids is None:
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]  # noqa: PTH208 - thousands of entries
    size, pid = max(((resident_bytes(pid), pid) for pid in pids if pid != os.getpid()), default=(0, 0))
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        size, name = 0, ""
    if size < _WORTH_NAMING_BYTES:
        return ""
    return f", the largest other process is {name} ({pid}) with {size / 1024**3:.2f} GB"


def _group_members() -> list[int]:
    """The processes in the group whose kills are counted."""
    for folder, name in _own_groups():
        if _field(folder / name, "oom_kill") is not None:
            with suppress(OSError, ValueError):
                return [int(word) for word in (folder / "cgroup.procs").read_text(encoding="ascii").split()]
    return []


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
