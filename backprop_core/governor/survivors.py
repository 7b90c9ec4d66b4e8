"""The governor holds the memory that trainings copy their state into, and commits what is in it for those that died."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from backprop_core.checkpoints.survivor_header import anything_left
from backprop_core.clock import Clock
from backprop_core.governor.survivor_commit import Remains, Survival, commit, forget
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.handover import Counter, confirm, peer_pid, taken


@dataclass(slots=True)
class _Held:
    """One training's memory.

    Attributes:
        watch: readable when its process has ended (pidfd_open(2)); -1 where the kernel cannot tell.
        over: it has ended, and others of its training have not.
        line: to the training; None when it has let go.
    """

    remains: Remains
    pid: int
    watch: int
    line: socket.socket | None
    over: bool = False


class Survivors:
    """Holds the memory of one attempt's trainings.

    Args:
        directory: the attempt's folder.
        clock: the time.
        told: gets what became of each that has died.
        changed: called when more is held.
    """

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        *,
        told: Callable[[Survival], None],
        changed: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._told = told
        self._changed = changed
        self._held: list[_Held] = []
        self._lines: dict[int, socket.socket] = {}
        self._main_pid = 0
        try:
            self._counter: Counter | None = Counter(directory)
        except (
            OSError,
            AttributeError,
        ):  # a file system, or a system, without sockets: nothing survives then
            self._counter = None

    def watch_over(self, pid: int) -> None:
        """The script's main process: what it leaves is looked at when it is known how it ended."""
        self._main_pid = pid

    @property
    def remains(self) -> tuple[Remains, ...]:
        """All that is held."""
        return tuple(held.remains for held in self._held)

    def waited_for(self) -> list[tuple[int, int]]:
        """What to wait for, as for `select.poll`."""
        if self._counter is None:
            return []
        fds = [self._counter.fd, *self._lines]
        watched = [held for held in self._held if held.pid != self._main_pid and not held.over]
        fds += [held.watch for held in watched if held.watch >= 0]
        fds += [held.line.fileno() for held in self._held if held.line is not None]
        return [(fd, select.POLLIN) for fd in fds]

    def ready(self, fd: int) -> bool:
        """Something has come at `fd`; False if it is none of these."""
        if self._counter is not None and fd == self._counter.fd:
            line = self._counter.accept()
            if line is not None:
                self._lines[line.fileno()] = line
            return True
        if fd in self._lines:
            self._take(self._lines.pop(fd))
            return True
        for held in [*self._held]:
            if held.line is not None and fd == held.line.fileno():
                held.line.close()  # the training is over, or dead
                held.line = None
                self._perhaps_let_go(held)
                return True
            if fd == held.watch:
                held.over = True
                if all(_is_over(one.watch) for one in self._training_of(held)):
                    self._bury(held)
                return True
        return False

    def _take(self, line: socket.socket) -> None:
        """Hold the memory that somebody hands over; what the dead before it have left is committed first."""
        try:
            given = taken(line)
            pid = peer_pid(line)
        except OSError:
            given = pid = None
        if given is None or pid is None:
            line.close()
            return
        for held in [*self._held]:
            is_its_own = bool(given[1].group) and held.remains.owner.group == given[1].group
            if held in self._held and not is_its_own and _is_over(held.watch):
                self._bury(held)
        self._held.append(_Held(Remains(*given), pid, _watch(pid), line))
        confirm(line)
        self._changed()

    def _perhaps_let_go(self, held: _Held) -> None:
        """Its training is over; memory in which nothing is left need not be held."""
        with suppress(OSError):
            if not anything_left(held.remains.fd):
                self._held.remove(held)
                self._let_go(held)

    def _training_of(self, held: _Held) -> list[_Held]:
        """What is held of all processes that train with this one, in the order of their ranks."""
        group = held.remains.owner.group
        if not group:
            return [held]
        of_group = [one for one in self._held if one.remains.owner.group == group]
        return sorted(of_group, key=lambda one: one.remains.owner.rank)

    def _bury(self, held: _Held) -> None:
        """Commit what a process, and those that train with it, have left, and let go of it."""
        first, *others = training = self._training_of(held)
        for one in training:
            self._held.remove(one)
        survival = commit(first.remains, self._clock, [one.remains for one in others])
        for one in training:
            self._let_go(one)
        if survival is not None:
            self._told(survival)

    def commit_all(self) -> None:
        """Every process of the script is gone."""
        while self._held:
            self._bury(self._held[0])

    def close(self) -> None:
        """Take and hold nothing more."""
        while self._held:
            self._let_go(self._held.pop())
        for line in self._lines.values():
            line.close()
        self._lines.clear()
        if self._counter is not None:
            self._counter.close()
            self._counter = None

    def _let_go(self, held: _Held) -> None:
        forget(held.remains)
        if held.watch >= 0:
            os.close(held.watch)
        if held.line is not None:
            held.line.close()


def _watch(pid: int) -> int:
    if hasattr(os, "pidfd_open"):
        with suppress(OSError):
            return os.pidfd_open(pid)
    return -1


def _is_over(watch: int) -> bool:
    """Whether a watched process has ended."""
    return watch >= 0 and bool(select.select([watch], [], [], 0.0)[0])
