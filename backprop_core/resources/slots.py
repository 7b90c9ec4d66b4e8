"""Machine-wide slots, first come first served, among processes that know nothing of each other and no daemon.

Everybody has a ticket: a numbered file in the runtime folder that its process keeps locked. The kernel frees
the lock when the process dies, however it dies, and whoever looks next sweeps the file away. All looking and
changing happens under one short lock, so that two processes never count the same place or the same memory as
free.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from backprop_core.clock import SYSTEM, Clock
from backprop_core.quick_dataclass import dataclass
from backprop_core.resources.policy import Reservation
from backprop_core.resources.runtime_dir import runtime_dir
from backprop_core.resources.tickets import Ticket
from backprop_core.runs.atomic import read_regular
from backprop_core.runs.locks import FileLock, is_locked
from backprop_core.runs.process import Life, ProcessIdentity
from backprop_core.strict_json import as_whole, decode, encode

WARM_UP_S = 60.0
STOPPED_AFTER_S = 10.0
LOCK_TIMEOUT_S = 30.0
_NOTE_BYTES = 64 * 1024
_NUMBER = re.compile("[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Queue:
    """Who is there at one moment.

    Attributes:
        holders: those with a slot, oldest first.
        ahead: those that wait and came before the one who looks.
    """

    holders: tuple[Ticket, ...]
    ahead: tuple[Ticket, ...]

    def reservations(self, now_s: float) -> tuple[Reservation, ...]:
        """What those that are still warming up have been promised and do not use yet."""
        return tuple(_outstanding(ticket) for ticket in self.holders if ticket.warm_until_s > now_s)


class QueuePlace:
    """A place in the queue, and then a slot, until `release` or the end of this process."""

    def __init__(self, slots: Slots, ticket: Ticket, lock: FileLock) -> None:
        self.ticket = ticket
        self._slots = slots
        self._lock = lock

    @property
    def running(self) -> bool:
        return self.ticket.running

    def step_up(self, decide: Callable[[Queue], Ticket | None]) -> Queue:
        """Look at the queue and, where `decide` gives a ticket, take the slot with it, all in one step.

        Raises:
            StoreError: the runtime folder cannot be used.
        """
        with self._slots.locked():
            now_s = self._slots.clock.monotonic()
            self._note(self.ticket.asked_at(now_s))
            queue = self._slots.look(before=self.ticket.number)
            taken = decide(queue)
            if taken is not None:
                self._note(replace(taken, number=self.ticket.number, running=True))
        return queue

    def name_script(self, script: ProcessIdentity) -> None:
        """Tie the slot to the training process too: if the governor is killed, the slot stays taken while
        it lives.
        """
        self._change(replace(self.ticket, script=script))

    def warmed_up(self) -> None:
        """The run has allocated what it needs: its promise is not counted any more, its use is."""
        if self.ticket.warm_until_s:
            self._change(replace(self.ticket, warm_until_s=0.0))

    def release(self) -> None:
        """Leave the queue or the slot. Harmless when done twice."""
        if self._lock.held:
            with contextlib.suppress(OSError):
                self._lock.path.unlink()
            self._lock.release()

    def _change(self, ticket: Ticket) -> None:
        with self._slots.locked():
            self._note(ticket)

    def _note(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self._lock.write_text(encode(ticket.to_json()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Slots:
    """The queue and the slots of this machine (of this user on it)."""

    def __init__(
        self,
        clock: Clock = SYSTEM,
        *,
        environ: Mapping[str, str] = os.environ,
        directory: Path | None = None,
    ) -> None:
        self.clock = clock
        self.directory = runtime_dir(environ) if directory is None else directory

    def enter(self, run_id: str, timeout_s: float = LOCK_TIMEOUT_S) -> QueuePlace:
        """Join the end of the queue.

        Raises:
            LockTimeoutError: another process holds the queue up.
            StoreError: the runtime folder cannot be used.
        """
        with self.locked(timeout_s) as lock:
            number = self._next_number()
            lock.write_text(str(number))
            ticket = Ticket(
                number=number,
                run_id=run_id,
                process=ProcessIdentity.own(),
                since_wall=self.clock.wall(),
                seen_s=self.clock.monotonic(),
            )
            own = FileLock(self.directory / f"ticket-{number:012d}")
            own.wait(self.clock, LOCK_TIMEOUT_S)
            place = QueuePlace(self, ticket, own)
            place._note(ticket)
        return place

    def holders(self) -> Sequence[Ticket]:
        """Who has a slot now, for people to look at."""
        with self.locked():
            return self.look().holders

    def locked(self, timeout_s: float = LOCK_TIMEOUT_S) -> FileLock:
        """The lock under which tickets are looked at and changed, taken; use as a context manager.

        Raises:
            LockTimeoutError: another process has held it for `timeout_s` seconds.
            StoreError: it cannot be had.
        """
        lock = FileLock(self.directory / "queue.lock")
        lock.wait(self.clock, timeout_s)
        return lock

    def look(self, before: int | None = None) -> Queue:
        """The queue as seen by ticket `before` (None: by somebody behind all). Call it under `locked`."""
        holders: list[Ticket] = []
        ahead: list[Ticket] = []
        for path in sorted(self.directory.glob("ticket-*")):
            ticket = _read(path)
            if ticket is None or not self._alive(path, ticket):
                continue
            if ticket.number == before:
                continue
            if ticket.running:
                holders.append(ticket)
            elif (before is None or ticket.number < before) and not self._stopped(ticket):
                ahead.append(ticket)
        return Queue(tuple(holders), tuple(ahead))

    def _alive(self, path: Path, ticket: Ticket) -> bool:
        """Whether anyone stands behind a ticket; sweeps it away if not."""
        if is_locked(path):
            return True
        if ticket.running and ticket.script is not None and ticket.script.life() is Life.ALIVE:
            return True
        with contextlib.suppress(OSError):
            path.unlink()
        return False

    def _stopped(self, ticket: Ticket) -> bool:
        """Whether a waiting process has not asked for so long that it must be stopped (Ctrl-Z, say)."""
        return self.clock.monotonic() - ticket.seen_s > STOPPED_AFTER_S

    def _next_number(self) -> int:
        try:
            noted = decode(read_regular(self.directory / "queue.lock", 64))
        except (OSError, ValueError):
            noted = 0
        last = as_whole(noted, least=0, most=10**17) or 0
        return max([last, *map(_number_of, self.directory.glob("ticket-*"))]) + 1


def _number_of(path: Path) -> int:
    """The number in a ticket's name; 0 where somebody else made a file with such a name."""
    digits = path.name.removeprefix("ticket-")
    return int(digits) if _NUMBER.fullmatch(digits) else 0


def _read(path: Path) -> Ticket | None:
    """The ticket in `path`; one that makes no sense and that nobody holds is swept away."""
    try:
        ticket = Ticket.from_json(decode(read_regular(path, _NOTE_BYTES)))
    except (OSError, ValueError):
        ticket = None
    if ticket is None and not is_locked(path):
        with contextlib.suppress(OSError):
            path.unlink()
    return ticket


def _outstanding(ticket: Ticket) -> Reservation:
    used = 0 if ticket.script is None else _resident_bytes(ticket.script)
    return Reservation(max(0, ticket.ram_bytes - used), ticket.vram_bytes, ticket.gpu_uuids)


def _resident_bytes(process: ProcessIdentity) -> int:
    """What a process and its children have allocated; 0 if it cannot be seen."""
    import psutil

    if not process.alive():
        return 0
    total = 0
    try:
        root = psutil.Process(process.pid)
        family = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    for member in family:
        with contextlib.suppress(psutil.Error):
            total += member.memory_info().rss
    return total
