"""What only the kernel can say or do: parent-death signals, subreapers, signal masks, process tables.

Everything here is best on Linux and falls back to something honest elsewhere.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

LINUX = sys.platform.startswith("linux")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")


def _prctl() -> Callable[..., int] | None:
    if not LINUX:
        return None
    import ctypes

    try:
        function = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return None
    return lambda option, value: int(function(option, value, 0, 0, 0))


def become_subreaper() -> bool:
    """Have orphaned descendants handed to this process rather than to init; False where that is
    impossible.
    """
    call = _prctl()
    return call is not None and call(_PR_SET_CHILD_SUBREAPER, 1) == 0


def death_signal_setter() -> Callable[[], None]:
    """A function for the child, before exec: SIGTERM to itself when the thread that started it dies.

    Looked up here, in the parent, because after a fork nothing may be imported any more.
    """
    call = _prctl()
    if call is None:
        return lambda: None
    prctl = call
    parent = os.getpid()

    def set_it() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:  # the governor died between fork and prctl
            os.kill(os.getpid(), signal.SIGTERM)

    return set_it


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler of its own for a signal; assumed where the kernel does not tell."""
    mask = _status_field(pid, "SigCgt")
    if mask is None:
        return not LINUX
    return bool(int(mask, 16) >> (int(number) - 1) & 1)


def _status_field(pid: int, name: str) -> str | None:
    try:
        text = (_PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return None


def descendants(root: int) -> set[int] | None:
    """A process and its descendants, read from the kernel's own lists; None where there are none.

    Much cheaper than `process_table` on a machine with many processes, but orphans that were handed on are not in it.
    """
    if not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists():
        return None
    found: set[int] = set()
    queue = [root]
    while queue:
        pid = queue.pop()
        found.add(pid)
        queue += [child for child in _children(pid) if child not in found]
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - each thread has a list of those it forked
    except OSError:
        return []
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                children += map(int, file.read().split())
        except (OSError, ValueError):
            continue
    return children


def written_files(pids: Iterable[int]) -> set[str]:
    """The files that these processes have open for writing, as far as the kernel tells."""
    found: set[str] = set()
    for pid in pids:
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 - numbers, of which there may be many
        except OSError:
            continue
        for number in numbers:
            try:
                name = os.readlink(f"/proc/{pid}/fd/{number}")  # noqa: PTH115
                if name.startswith("/") and name not in found and _for_writing(pid, number):
                    found.add(name)
            except OSError:
                continue
    return found


def _for_writing(pid: int, number: str) -> bool:
    with open(f"/proc/{pid}/fdinfo/{number}", "rb") as file:  # noqa: PTH123 - see process_table
        for line in file:
            if line.startswith(b"flags:"):
                return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return False


def command_line(pid: int) -> str:
    """What a process was started with, for people, at most 80 characters; its number where that is not told."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        words = []
    text = "".join(c if c.isprintable() else "?" for c in " ".join(filter(None, words)))
    return f"{text[:77]}..." if len(text) > 80 else text or f"process {pid}"


def childless() -> bool:
    """Whether this process has no child left, not even a zombie: in a subreaper the proof that no descendant is left.

    True where that cannot be asked, as on macOS.
    """
    if not LINUX:
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def dead_child() -> int:
    """The pid of a child that has ended and still is to be waited for; 0 for none, and where that cannot be asked."""
    if not LINUX:
        return 0
    try:
        dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return 0 if dead is None else dead.si_pid


def session_of(pid: int) -> int:
    """The id of a process's session, of a zombie's too; 0 where there is no such process."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def largest_child_bytes() -> int:
    """The most that any one descendant that has ended and was waited for ever had resident."""
    import resource

    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1024 if LINUX else 1)


def process_table() -> dict[int, tuple[int, int, str]]:
    """Every process that can be seen: pid to (parent's pid, session id, state letter)."""
    if not LINUX:
        return _process_table_psutil()
    table = {}
    for entry in os.listdir(_PROC):  # noqa: PTH208 - a Path for each of thousands of entries costs more than the listing
        if entry.isdecimal():
            row = _stat_row(entry)
            if row is not None:
                table[int(entry)] = row
    return table


def _stat_row(pid: str) -> tuple[int, int, str] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - see process_table
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[1]), int(fields[3]), fields[0].decode()
    except (OSError, IndexError, ValueError):
        return None  # it ended while we looked


def _process_table_psutil() -> dict[int, tuple[int, int, str]]:
    import psutil

    table = {}
    for process in psutil.process_iter(["pid", "ppid", "status"]):
        pid = process.info["pid"]
        try:
            session = os.getsid(pid)
        except OSError:
            session = 0
        state = "Z" if process.info["status"] == psutil.STATUS_ZOMBIE else "S"
        table[pid] = (process.info["ppid"] or 0, session, state)
    return table
