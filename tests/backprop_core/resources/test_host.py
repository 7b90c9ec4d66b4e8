"""The host probe against made-up /proc and /sys trees, and against this machine."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from backprop_core.resources.probes.host import Host
from backprop_core.resources.samples import GIB

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNTS = (
    "31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
)


def tree(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def host(root: Path, free: int = 50 * GIB) -> Host:
    return Host(root=root, memory=lambda: (64 * GIB, free), load=lambda: 3.0)


def v2(root: Path, cgroup: str = "/job", **files: object) -> Path:
    base = {"/proc/self/mountinfo": V2_MOUNT, "/proc/self/cgroup": f"0::{cgroup}"}
    return tree(root, {**base, **{f"/sys/fs/cgroup/{name}": content for name, content in files.items()}})


def test_without_limits_the_machine_counts(tmp_path: Path) -> None:
    """No cgroup, or one without a limit: MemAvailable."""
    assert host(tmp_path).read().memory_free_bytes == 50 * GIB
    v2(tmp_path, **{"job/memory.max": "max", "job/memory.current": GIB})
    sample = host(tmp_path).read()
    assert (sample.memory_free_bytes, sample.memory_bound) == (50 * GIB, "the machine")


def test_a_v2_limit_is_headroom_and_page_cache_is_not_use(tmp_path: Path) -> None:
    """Limit less use, where files that can be dropped do not count as used."""
    v2(tmp_path, **{
        "job/memory.max": 8 * GIB,
        "job/memory.current": 7 * GIB,
        "job/memory.stat": f"anon 5\ninactive_file {3 * GIB}\n",
    })  # fmt: skip
    sample = host(tmp_path).read()
    assert sample.memory_free_bytes == 4 * GIB
    assert sample.memory_total_bytes == 8 * GIB
    assert sample.memory_bound == "cgroup /job"


def test_the_tightest_of_all_groups_above_counts(tmp_path: Path) -> None:
    """A limit on a parent binds too, and so does memory.high."""
    v2(tmp_path, "/a/b", **{
        "a/b/memory.max": 40 * GIB,
        "a/b/memory.current": GIB,
        "a/memory.max": "max",
        "a/memory.high": 10 * GIB,
        "a/memory.current": 9 * GIB,
    })  # fmt: skip
    sample = host(tmp_path).read()
    assert (sample.memory_free_bytes, sample.memory_bound) == (GIB, "cgroup /a")


def test_in_a_container_the_mounts_root_is_the_group(tmp_path: Path) -> None:
    """The path in /proc is the host's and not there: the mounted root is looked at."""
    v2(tmp_path, "/docker/0123", **{"memory.max": 2 * GIB, "memory.current": GIB})
    sample = host(tmp_path).read()
    assert (sample.memory_free_bytes, sample.memory_bound) == (GIB, "cgroup /")


def test_a_v1_limit_is_headroom(tmp_path: Path) -> None:
    """The same with v1's names; its "no limit" is a number near 2**63."""
    files: dict[str, object] = {
        "/proc/self/mountinfo": V1_MOUNTS,
        "/proc/self/cgroup": "4:memory:/job\n1:cpu,cpuacct:/job",
        "/sys/fs/cgroup/memory/job/memory.limit_in_bytes": 6 * GIB,
        "/sys/fs/cgroup/memory/job/memory.usage_in_bytes": 5 * GIB,
        "/sys/fs/cgroup/memory/job/memory.stat": f"total_inactive_file {GIB}",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
        "/sys/fs/cgroup/memory/memory.usage_in_bytes": 60 * GIB,
        "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": 150000,
        "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": 100000,
    }
    sample = host(tree(tmp_path, files)).read()
    assert sample.memory_free_bytes == 2 * GIB
    assert sample.cpus == 1.5
    assert sample.load_per_cpu == 2.0


def test_a_v2_quota_limits_the_cpus(tmp_path: Path) -> None:
    """Half a CPU is half a CPU; "max" is none."""
    v2(tmp_path, **{"job/cpu.max": "50000 100000"})
    assert host(tmp_path).read().cpus == 0.5
    v2(tmp_path, **{"job/cpu.max": "max 100000"})
    assert (host(tmp_path).read().cpus or 0) >= 1


@pytest.mark.parametrize("junk", ["", "x", "-5", "99 99", "\0"])
def test_nonsense_in_the_files_is_passed_over(tmp_path: Path, junk: str) -> None:
    """Whatever the kernel's files hold, the machine's own value stays."""
    v2(tmp_path, **{"job/memory.max": junk, "job/memory.current": junk, "job/cpu.max": junk})
    sample = host(tmp_path).read()
    assert sample.memory_free_bytes == 50 * GIB
    tree(tmp_path, {"/proc/self/mountinfo": junk, "/proc/self/cgroup": junk})
    assert host(tmp_path).read().memory_free_bytes == 50 * GIB


def test_what_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    """A failing source makes its value None and no exception."""

    def fail() -> tuple[int, int]:
        raise OSError("no")

    sample = Host(root=tmp_path, memory=fail, load=lambda: 1 / 0).read()
    assert sample.memory_free_bytes is None
    assert sample.load_per_cpu is None


def test_this_machine() -> None:
    """On the real machine free memory is positive and never more than psutil says."""
    sample = Host().read()
    assert sample.memory_free_bytes is not None
    assert 0 < sample.memory_free_bytes <= psutil.virtual_memory().total
    assert sample.memory_total_bytes is not None
    assert sample.cpus
    assert sample.load_per_cpu is not None
