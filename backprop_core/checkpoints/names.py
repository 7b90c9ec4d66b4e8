"""The names of folders in a checkpoint directory, and whose the temporary ones are."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from backprop_core.quick_dataclass import dataclass

DAMAGED_PREFIX: Final = "damaged-"
TRASH_PREFIX: Final = ".backprop-trash-"
SAVING_PREFIX: Final = ".backprop-saving-"

_STEP = re.compile(r"step-(\d{12,30})(?:\.(\d{1,9}))?")
_SAVING = re.compile(re.escape(SAVING_PREFIX) + r"([0-9a-f]{16})-(\d{1,20})-(\d{1,30})-[0-9a-f]{8}")


def step_folder(step: int, again: int = 0) -> str:
    """`step-000000001234`, and `step-000000001234.1` for a second save of the same step."""
    return f"step-{step:012d}" + (f".{again}" if again else "")


def parse_step_folder(name: str) -> tuple[int, int] | None:
    """(step, again) of a committed checkpoint's folder name; None for any other name."""
    match = _STEP.fullmatch(name)
    return None if match is None else (int(match[1]), int(match[2] or 0))


def next_again(taken: Iterable[str], step: int) -> int:
    """The `again` of the next save of `step` among folders of these names: behind all that are there, so that it counts as
    the newest also where an older save of the same step is gone.
    """
    places = [place for place in map(parse_step_folder, taken) if place is not None]
    return max((again + 1 for of, again in places if of == step), default=0)


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, recognisable in a file name: a digest of where it runs (host, boot, pid namespace), pid and
    start.
    """

    place: str
    pid: int
    started: int

    @staticmethod
    def this_process() -> Owner:
        """The running process; asked anew each time, because it may have been forked."""
        pid = os.getpid()
        return Owner(_place(), pid, _start_ticks(pid) or 0)

    def saving_folder(self) -> str:
        """A fresh name for a temporary folder of this process."""
        return f"{SAVING_PREFIX}{self.place}-{self.pid}-{self.started}-{os.urandom(4).hex()}"

    def is_dead(self, here: Owner) -> bool | None:
        """Whether the process is gone, as seen from `here`; None where that cannot be known: another machine
        or boot.
        """
        return _start_ticks(self.pid) != self.started if self.place == here.place else None


def parse_saving_folder(name: str) -> Owner | None:
    """Whose temporary folder this is; None if it is not one of ours."""
    match = _SAVING.fullmatch(name)
    return None if match is None else Owner(match[1], int(match[2]), int(match[3]))


def _place() -> str:
    import xxhash

    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        import psutil

        boot = str(round(psutil.boot_time() / 60))
    return xxhash.xxh3_64_hexdigest(f"{socket.gethostname()} {boot}".encode())


def _start_ticks(pid: int) -> int | None:
    """When the process was started, in the kernel's own unit; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _start_centiseconds(pid)
    except OSError:
        return None
    return int(
        stat[stat.rindex(b")") + 2 :].split()[19]
    )  # field 22; the name in brackets may contain anything


def _start_centiseconds(pid: int) -> int | None:
    import psutil

    try:
        return round(psutil.Process(pid).create_time() * 100)
    except psutil.Error:
        return None
