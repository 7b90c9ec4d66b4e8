"""The machine's memory and load, as far as this process may use them: in a container that is less than
all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from backprop_core.resources.probes.rapl import Rapl
from backprop_core.resources.samples import HostSample

_T = TypeVar("_T")
_LARGEST_BYTES = 1 << 20
_PIECE_BYTES = 1 << 16
_CPUS_EVERY = 10
"""Readings between two looks at affinity and CPU quota, which hardly ever change."""
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
        self._memory_groups: list[tuple[str, Path, bool]] | None = None
        self._cpu_groups: list[tuple[Path, bool]] = []
        self._known_cpus: float | None = None
        self._readings = 0
        self._rapl = Rapl(root)

    def read(self) -> HostSample:
        if self._memory_groups is None:
            self._find_groups()
        total, free, bound = self._machine()
        for name, limit, used in self._limits():
            headroom = max(0, limit - used)
            total = limit if total is None else min(total, limit)
            if free is None or headroom < free:
                free, bound = headroom, f"cgroup {name}"
        if self._readings % _CPUS_EVERY == 0:
            self._known_cpus = _maybe(self._cpus)
        self._readings += 1
        return HostSample(total, free, bound, _maybe(self._load), self._known_cpus, _maybe(self._rapl.read))

    def _machine(self) -> tuple[int | None, int | None, str]:
        known = _maybe(self._memory)
        return (None, None, "") if known is None else (*known, "the machine")

    def _limits(self) -> Iterator[tuple[str, int, int]]:
        """Name, limit and use in bytes of every memory cgroup with a limit around this process."""
        for name, folder, unified in self._memory_groups or []:
            found = _group_v2(folder) if unified else _group_v1(folder)
            if found is not None:
                yield name, *found

    def _cpus(self) -> float:
        """CPUs that the affinity and cgroup quotas leave, such as 1.5."""
        allowed: float = (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )
        for folder, unified in self._cpu_groups:
            if unified:
                words = " ".join(_lines(f"{folder}/cpu.max")).split()
            else:
                words = [*_lines(f"{folder}/cpu.cfs_quota_us"), *_lines(f"{folder}/cpu.cfs_period_us")]
            if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]) > 0:
                allowed = min(allowed, max(int(words[0]) / int(words[1]), 0.01))
        return allowed

    def _find_groups(self) -> None:
        """Find this process's cgroups, once: looking for them is the dear part of a reading."""
        self._memory_groups = []
        mounts = self._mounts()
        for line in _lines(f"{self._root}/proc/self/cgroup"):
            number, _, rest = line.partition(":")
            words, _, path = rest.partition(":")
            unified = number == "0" and not words
            controllers = [""] if unified else words.split(",")
            for controller in controllers:
                mount = mounts.get(controller)
                if mount is None:
                    continue
                here = mount / path.lstrip("/")
                if (
                    not here.is_dir()
                ):  # in a container the path is the host's, and only the mount's root is there
                    here = mount
                if controller in ("", "cpu"):
                    self._cpu_groups.append((here, unified))
                if controller in ("", "memory"):
                    self._memory_groups += [(name, folder, unified) for name, folder in _upwards(here, mount)]

    def _mounts(self) -> dict[str, Path]:
        """Where cgroup v2 ("") and the v1 controllers memory and cpu are mounted."""
        found: dict[str, Path] = {}
        for line in _lines(f"{self._root}/proc/self/mountinfo"):
            left, _, right = line.partition(" - ")
            place, kind = left.split(), right.split()
            if len(place) < 5 or len(kind) < 3 or not kind[0].startswith("cgroup"):
                continue
            path = self._root / place[4].lstrip("/")
            names = [""] if kind[0] == "cgroup2" else kind[2].split(",")
            found |= {name: path for name in names if name in ("", "memory", "cpu")}
        return found


def _upwards(folder: Path, mount: Path) -> Iterator[tuple[str, Path]]:
    """Name and folder of a group and of those above it, up to the mount."""
    for place in (folder, *folder.parents):
        yield "/" + str(place.relative_to(mount)).lstrip("."), place
        if place == mount:
            return


def _machine_memory() -> tuple[int, int]:
    known = {}
    for line in _lines("/proc/meminfo")[
        :3
    ]:  # MemTotal, MemFree, MemAvailable; psutil takes six times as long
        name, _, value = line.partition(":")
        known[name] = value.split()
    total, available = known.get("MemTotal", []), known.get("MemAvailable", [])
    if total[1:] == available[1:] == ["kB"] and int(available[0]) <= int(total[0]):
        return int(total[0]) * 1024, int(available[0]) * 1024
    import psutil

    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)


def _group_v2(folder: Path) -> tuple[int, int] | None:
    """Limit and use of a v2 group. Files that were read and can be dropped do not count as used."""
    limits = [
        limit
        for limit in (_size(f"{folder}/memory.max"), _size(f"{folder}/memory.high"))
        if limit is not None
    ]
    used = _size(f"{folder}/memory.current") if limits else None
    if not limits or used is None:
        return None
    return min(limits), max(0, used - _stat(folder, "inactive_file"))


def _group_v1(folder: Path) -> tuple[int, int] | None:
    limit = _size(f"{folder}/memory.limit_in_bytes")
    if limit is None or limit >= _NO_LIMIT:
        return None
    used = _size(f"{folder}/memory.usage_in_bytes")
    if used is None:
        return None
    return limit, max(0, used - _stat(folder, "total_inactive_file"))


def _size(path: str) -> int | None:
    """A number of bytes; None for "max", for nonsense, or where there is no such file."""
    word = "".join(_lines(path)[:1]).strip()
    return int(word) if word.isdigit() else None


def _stat(folder: Path, key: str) -> int:
    for line in _lines(f"{folder}/memory.stat"):
        name, _, value = line.partition(" ")
        if name == key and value.strip().isdigit():
            return int(value)
    return 0


def _lines(path: str) -> list[str]:
    """The lines of a small file of the kernel's; [] where there is none. Read without Path and buffers: every second."""
    pieces, size = [], 0
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while size < _LARGEST_BYTES and (piece := os.read(descriptor, _PIECE_BYTES)):
                pieces.append(piece)
                size += len(piece)
        finally:
            os.close(descriptor)
    except OSError:
        return []
    return b"".join(pieces).decode("utf-8", "replace").splitlines()


def _maybe(ask: Callable[[], _T]) -> _T | None:
    try:
        return ask()
    except Exception:
        return None
