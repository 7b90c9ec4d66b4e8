"""The machine's memory and load, as far as this process may use them: in a container that is less than
all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from backprop_core.governor.samples import HostSample

_T = TypeVar("_T")
_NO_LIMIT = 2**60  # cgroup v1 says "no limit" with a number near 2**63


class Host:
    """Reads the host.

    Args:
        root: the root of the file system with /proc and /sys, another one in tests.
        memory: total and available bytes of the machine.
        load: the load average over a minute.
    """

    def __init__(
        self,
        *,
        root: Path = Path("/"),
        memory: Callable[[], tuple[int, int]] | None = None,
        load: Callable[[], float] | None = None,
    ) -> None:
        self._root = root
        self._memory = memory or _machine_memory
        self._load = load or (lambda: os.getloadavg()[0])
        self._mounted: dict[str, Path] | None = None

    def read(self) -> HostSample:
        total, free, bound = self._machine()
        for name, limit, used in self._cgroups():
            headroom = max(0, limit - used)
            total = limit if total is None else min(total, limit)
            if free is None or headroom < free:
                free, bound = headroom, f"cgroup {name}"
        return HostSample(total, free, bound, _maybe(self._load), _maybe(self._cpus))

    def _machine(self) -> tuple[int | None, int | None, str]:
        known = _maybe(self._memory)
        return (None, None, "") if known is None else (*known, "the machine")

    def _cgroups(self) -> Iterator[tuple[str, int, int]]:
        """Name, limit and use in bytes of every memory cgroup with a limit around this process."""
        for mount, name, unified in self._memory_groups():
            here = mount / name.lstrip("/")
            # In a container the path is the host's, and only the mount's root is there.
            folders = [here, *here.parents] if here.is_dir() else [mount]
            for folder in folders:
                found = _group_v2(folder) if unified else _group_v1(folder)
                if found is not None:
                    yield "/" + str(folder.relative_to(mount)).lstrip("."), *found
                if folder == mount:
                    break

    def _memory_groups(self) -> Iterator[tuple[Path, str, bool]]:
        """Mount point, path below it, and whether it is v2, of the memory cgroups of this process."""
        mounts = self._mounts()
        for line in _lines(self._root / "proc/self/cgroup"):
            number, _, rest = line.partition(":")
            controllers, _, name = rest.partition(":")
            if number == "0" and not controllers and "" in mounts:
                yield mounts[""], name, True
            elif "memory" in controllers.split(",") and "memory" in mounts:
                yield mounts["memory"], name, False

    def _mounts(self) -> dict[str, Path]:
        """Where cgroup v2 ("") and the v1 controllers are mounted; looked up once, it is the dear part."""
        if self._mounted is None:
            self._mounted = {}
            for line in _lines(self._root / "proc/self/mountinfo"):
                left, _, right = line.partition(" - ")
                place, kind = left.split(), right.split()
                if len(place) < 5 or len(kind) < 3 or not kind[0].startswith("cgroup"):
                    continue
                path = self._root / place[4].lstrip("/")
                names = [""] if kind[0] == "cgroup2" else kind[2].split(",")
                self._mounted |= {name: path for name in names if name in ("", "memory", "cpu")}
        return self._mounted

    def _cpus(self) -> float:
        allowed: float = (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )
        for quota in self._quotas():
            allowed = min(allowed, max(quota, 0.01))
        return allowed

    def _quotas(self) -> Iterator[float]:
        """CPUs that cgroup quotas leave, such as 1.5."""
        mounts = self._mounts()
        for line in _lines(self._root / "proc/self/cgroup"):
            number, _, rest = line.partition(":")
            controllers, _, name = rest.partition(":")
            if number == "0" and not controllers and "" in mounts:
                folder = mounts[""] / name.lstrip("/")
                words = (_lines((folder if folder.is_dir() else mounts[""]) / "cpu.max") or [""])[0].split()
            elif "cpu" in controllers.split(",") and "cpu" in mounts:
                folder = mounts["cpu"] / name.lstrip("/")
                folder = folder if folder.is_dir() else mounts["cpu"]
                words = [*_lines(folder / "cpu.cfs_quota_us"), *_lines(folder / "cpu.cfs_period_us")]
            else:
                continue
            if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]) > 0:
                yield int(words[0]) / int(words[1])


def _machine_memory() -> tuple[int, int]:
    import psutil

    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)


def _group_v2(folder: Path) -> tuple[int, int] | None:
    """Limit and use of a v2 group. Files that were read and can be dropped do not count as used."""
    limits = [
        limit for limit in (_size(folder / "memory.max"), _size(folder / "memory.high")) if limit is not None
    ]
    used = _size(folder / "memory.current")
    if not limits or used is None:
        return None
    return min(limits), max(0, used - _stat(folder, "inactive_file"))


def _group_v1(folder: Path) -> tuple[int, int] | None:
    limit, used = _size(folder / "memory.limit_in_bytes"), _size(folder / "memory.usage_in_bytes")
    if limit is None or limit >= _NO_LIMIT or used is None:
        return None
    return limit, max(0, used - _stat(folder, "total_inactive_file"))


def _size(path: Path) -> int | None:
    """A number of bytes; None for "max", for nonsense, or where there is no such file."""
    word = "".join(_lines(path)[:1]).strip()
    return int(word) if word.isdigit() else None


def _stat(folder: Path, key: str) -> int:
    for line in _lines(folder / "memory.stat"):
        name, _, value = line.partition(" ")
        if name == key and value.strip().isdigit():
            return int(value)
    return 0


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _maybe(ask: Callable[[], _T]) -> _T | None:
    try:
        return ask()
    except Exception:
        return None
