"""Whether a process that a record names is still the same one.

A pid is used again, also soon. So a process is named by boot, pid and the moment it started. On Linux that
moment is counted from boot, because psutil's wall time moves when somebody sets the clock.
"""

from __future__ import annotations

import os
from enum import StrEnum
from functools import cache
from pathlib import Path

from backprop_core.quick_dataclass import dataclass
from backprop_core.strict_json import JSON, as_number, as_object, as_text, as_whole

_SAME_S = 0.05 if Path("/proc/self/stat").exists() else 2.0


class Life(StrEnum):
    """What can be said about a process from here."""

    ALIVE = "alive"
    GONE = "gone"
    ELSEWHERE = (
        "elsewhere"  # of another machine or container that shares this folder: cannot be seen from here
    )


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, for ever.

    Attributes:
        boot_id: the boot (and, in a container, the pid namespace) that `pid` counts in.
        pid: its number there.
        started: when it started, seconds; since boot on Linux, else since 1970.
        host: the machine's name, to tell a reboot from another machine.
    """

    boot_id: str
    pid: int
    started: float
    host: str = ""

    @staticmethod
    def of(pid: int) -> ProcessIdentity:
        """The identity of a process that is running now; of a dead one an identity that is not alive."""
        started = _started(pid)
        return ProcessIdentity(boot_id(), pid, -1.0 if started is None else started, host_name())

    @staticmethod
    def own() -> ProcessIdentity:
        """The identity of the calling process."""
        return ProcessIdentity.of(os.getpid())

    def life(self) -> Life:
        """Whether this process is alive, gone, or out of sight."""
        if self.boot_id != boot_id():
            same_boot = self.boot_id.partition("/")[0] == boot_id().partition("/")[0]
            rebooted = bool(self.host) and self.host == host_name() and not same_boot
            return Life.GONE if rebooted else Life.ELSEWHERE
        started = _started(self.pid)
        if started is None or abs(started - self.started) > _SAME_S:
            return Life.GONE
        return Life.ALIVE

    def alive(self) -> bool:
        """Whether this very process runs here; a zombie does not."""
        return self.life() is Life.ALIVE

    def to_json(self) -> JSON:
        return {"boot_id": self.boot_id, "pid": self.pid, "started": self.started, "host": self.host}

    @staticmethod
    def from_json(value: object) -> ProcessIdentity | None:
        """The identity in `value`, or None if there is none that makes sense."""
        content = as_object(value)
        pid = as_whole(content.get("pid"), least=1, most=2**31 - 1)
        started, boot = as_number(content.get("started")), as_text(content.get("boot_id"))
        if pid is None or started is None or boot is None:
            return None
        return ProcessIdentity(boot, pid, started, as_text(content.get("host")) or "")


@cache
def boot_id() -> str:
    """A word that changes with every boot, followed by the pid namespace where there is one."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        import psutil  # where there is no /proc; elsewhere its 20 ms are not paid

        boot = f"boot-{round(psutil.boot_time() / 60)}"  # to the minute: the clock may be corrected a little
    try:
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return boot


@cache
def host_name() -> str:
    return os.uname().nodename


def _started(pid: int) -> float | None:
    """When `pid` started, seconds; None if there is no such process or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _started_by_psutil(pid)
    fields = stat.rpartition(b")")[2].split()  # the name before it may hold blanks and brackets
    if len(fields) < 20:
        return _started_by_psutil(pid)
    if fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _started_by_psutil(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None
