"""The keeper: a small process that outlives a governor killed with -9.

The script gets SIGTERM from the kernel when its governor dies. Someone must still empty the pipe it prints to
(it would die of a broken pipe, or hang on a full one, in the middle of its save) and end it if it does not
end itself. That is all the keeper does. While the governor lives it sleeps in one read.

There is a second one that empties nothing and ends the script a little later: whoever kills the governor may well kill the
keeper beside it. A keeper that dies while the governor lives is replaced.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from backprop_core.clock import Clock
from backprop_core.governor import kernel
from backprop_core.governor.survivor_commit import Remains, commit, of_each_training
from backprop_core.governor.tree import Family, send
from backprop_core.own_line import beginning_lines
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.attempt import GOVERNOR_FILE
from backprop_core.runs.events import EventLog

SECOND_LATER_S = 0.5
"""The second keeper acts so much later than the first, where that one is still there."""
_ALL_IS_WELL = b"!"
_OUTLIVED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
"""What a scheduler may send to every process of a job, or a terminal to its group."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What a keeper watches over.

    Args:
        pid: the script.
        drains: read ends to empty.
        log: where what is read goes.
        grace_s: seconds between the governor's death and SIGKILL.
        deadline: SIGKILL at this monotonic instant at the latest.
        remains: memory of the trainings, to be committed when they are dead and the governor is.
    """

    pid: int
    drains: Sequence[int]
    log: Path
    grace_s: float
    deadline: float
    remains: tuple[Remains, ...] = ()


class Keeper:
    """The governor's handle on its keeper."""

    def __init__(self, pid: int, line: int) -> None:
        self.pid = pid
        self._line = line

    @classmethod
    def start(cls, charge: Charge, clock: Clock) -> Keeper:
        """Fork a keeper for a script. What it does needs no lock that another thread could hold."""
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid:
            os.close(ours)
            return cls(pid, theirs)
        status = 1
        try:
            os.close(theirs)
            _detach(ours, (*charge.drains, *(each.fd for each in charge.remains)))
            deadline = _wait(ours, charge.deadline)
            if deadline is not None:
                _take_over(charge, deadline, clock)
            status = 0
        finally:
            os._exit(status)

    def lives(self) -> bool:
        """Whether it still watches."""
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] == 0
        except ChildProcessError:
            return False

    def tell_deadline(self, deadline: float) -> None:
        """The deadline has moved."""
        with suppress(OSError):
            os.write(self._line, b"%r\n" % deadline)

    def dismiss(self) -> None:
        """Tell the keeper that its work is not needed and wait for it."""
        with suppress(OSError):
            os.write(self._line, _ALL_IS_WELL)
        os.close(self._line)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


class Keepers:
    """The two keepers of one script.

    Args:
        charge: what the first one watches over.
        spare: called with the pid of each that is started.
    """

    def __init__(self, charge: Charge, clock: Clock, spare: Callable[[int], None]) -> None:
        later = charge.grace_s + SECOND_LATER_S
        second = replace(charge, drains=(), grace_s=later, deadline=charge.deadline + SECOND_LATER_S)
        self._charges = [charge, second]
        self._clock = clock
        self._spare = spare
        self._keepers = [self._start(each) for each in self._charges]

    def tend(self) -> None:
        """Replace the one that has died."""
        for place, keeper in enumerate(self._keepers):
            if not keeper.lives():
                keeper.dismiss()
                self._keepers[place] = self._start(self._charges[place])

    def tell_remains(self, remains: tuple[Remains, ...]) -> None:
        """There is more to commit: only keepers that are begun now hold it. The new ones come before the old ones go."""
        old = self._keepers
        self._charges = [replace(charge, remains=remains) for charge in self._charges]
        self._keepers = [self._start(each) for each in self._charges]
        for keeper in old:
            keeper.dismiss()

    def tell_deadline(self, deadline: float) -> None:
        """The deadline has moved."""
        for place, later_s in enumerate((0.0, SECOND_LATER_S)):
            self._charges[place] = replace(self._charges[place], deadline=deadline + later_s)
            self._keepers[place].tell_deadline(deadline + later_s)

    def dismiss(self) -> None:
        """Tell both that their work is not needed and wait for them."""
        for keeper in self._keepers:
            keeper.dismiss()

    def _start(self, charge: Charge) -> Keeper:
        keeper = Keeper.start(charge, self._clock)
        self._spare(keeper.pid)
        return keeper


def _wait(line: int, deadline: float) -> float | None:
    """Sleep while the governor lives; the deadline that held at its death, or None if it has no more need of
    us.
    """
    while data := os.read(line, 4096):
        if data.endswith(_ALL_IS_WELL):
            return None
        with suppress(ValueError):
            deadline = float(data.split()[-1])
    return deadline


def _detach(line: int, drains: Sequence[int]) -> None:
    """Leave the governor's terminal, session and files, so that only what is needed is held open."""
    os.setsid()
    for name in _OUTLIVED:
        signal.signal(signal.Signals[name], signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    keep = {line, *drains}
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        if fd not in keep:
            os.dup2(null, fd)
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - names are numbers here
        fd = int(name)
        if fd > 2 and fd not in keep:
            with suppress(OSError):
                os.close(fd)


def _take_over(charge: Charge, deadline: float, clock: Clock) -> None:
    family = Family(charge.pid, governor=None)
    family.wake()  # it may have been paused
    if not kernel.LINUX:  # there the kernel has done it, and twice could be taken for "at once"
        send(charge.pid, signal.SIGTERM)
    end = min(clock.monotonic() + charge.grace_s, deadline)
    log = os.open(charge.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    poll = select.poll()
    for fd in charge.drains:
        os.set_blocking(fd, False)
        poll.register(fd, select.POLLIN)
    known = family.alive()
    while known and clock.monotonic() < end:
        _empty(poll, log, wait_ms=100)
        known = family.alive()
        if charge.pid not in known:
            break
    family.kill()
    for pid in known:
        send(pid, signal.SIGKILL)
    while _empty(poll, log, wait_ms=0):
        pass
    for first, *others in of_each_training(charge.remains):
        _commit(first, others, charge.log.parent, clock)


def _commit(first: Remains, others: Sequence[Remains], attempt_dir: Path, clock: Clock) -> None:
    """Save what a training has left; the governor, whose log this is written into, is dead."""
    survival = commit(first, clock, others)
    if survival is not None and (survival.path or survival.trouble):  # else the other keeper was faster
        EventLog(attempt_dir / GOVERNOR_FILE, clock).write(survival.event())


def _empty(poll: select.poll, log: int, *, wait_ms: int) -> bool:
    """Move what has come within `wait_ms`; False if that was nothing."""
    ready = poll.poll(wait_ms)
    for fd, _ in ready:
        if not _drain(fd, log):
            poll.unregister(fd)
    return bool(ready)


def _drain(fd: int, log: int) -> bool:
    """Move what is there; False at the end."""
    try:
        data = os.read(fd, 65_536)
    except BlockingIOError:
        return True
    except OSError:
        return False
    with suppress(OSError):
        os.write(log, beginning_lines(data, torn=True))
    return bool(data)
