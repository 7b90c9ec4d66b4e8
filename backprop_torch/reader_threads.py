"""Threads of the script's that read a loader ahead of training, and the queues through which they hand batches over.

Such a thread goes on while a checkpoint is made, and while a resume puts everything in its place. So it is stopped for that
long just before it fetches a batch, or begins a pass: there, or in a full queue, all that it has made is in sight.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Final
from weakref import ref

from backprop_core.clock import SYSTEM
from backprop_core.ports.loaders import LoaderReading
from backprop_core.weak_identity import WeakIdentityMap
from backprop_torch.loader_thread import (
    NOT_QUEUED,
    NOTHING,
    POOL,
    LoaderThread,
    is_batch,
    is_filled,
    is_idle,
    same_loader,
    waits_at,
)
from backprop_torch.thread_frames import plain_variables

_PATIENCE_S: Final = 2.0
_LOOK_S: Final = 0.002
_ELSEWHERE_S: Final = 0.5
_UNMET_S: Final = 1.0
"""On the way back a thread that nobody waits for goes on after so long: it may be one that nothing is to be put back for."""


class ReaderThreads:
    """All such threads of the process, and the gate before which they are stopped."""

    def __init__(self, made_by: Callable[[object], tuple[Any, LoaderReading] | None]) -> None:
        self.readers: list[LoaderThread] = []
        self.awaiting = False
        self._made_by = made_by
        self._own = threading.local()
        self._fills: WeakIdentityMap[LoaderThread] = WeakIdentityMap()
        self._turn = threading.Condition()
        self._stills = 0
        self._order = count()
        self._trains = threading.get_ident()
        self._owner = os.getpid()
        self._patched: list[tuple[str, Any, Any]] = []

    def trains_here(self) -> None:
        """This is the thread that trains."""
        self._trains = threading.get_ident()

    def is_elsewhere(self) -> bool:
        """Whether this is a thread other than the one that trains."""
        return threading.get_ident() != self._trains and os.getpid() == self._owner

    def reads(self, iterator: object) -> bool:
        """Whether such a thread asks `iterator`."""
        return any(one.iterator() is iterator and not one.pool for one in self.readers)

    def fills(self, value: object) -> bool:
        """Whether such a thread fills, or has filled, this queue."""
        return self._fills.get(value) is not None

    # -- what those threads do ---------------------------------------------------------------------------------

    def fetch(self, original: Callable[[Any], Any], iterator: Any) -> Any:
        """This thread asks torch's iterator for a batch."""
        reader = self._reader()
        if reader.fetching:  # a loader that is read to make a batch of another
            return original(iterator)
        self._gate(reader, iterator)
        try:
            if reader.iterator() is not iterator:
                self._meet(reader, iterator)
            return reader.fetch(original, iterator)
        finally:
            reader.fetching = False

    def pass_begins(self) -> None:
        """This thread begins a pass, which may draw."""
        reader = getattr(self._own, "reader", None)
        if reader is not None:
            self._gate(reader, None)
            reader.fetching = False

    def _reader(self) -> LoaderThread:
        reader: LoaderThread | None = getattr(self._own, "reader", None)
        if reader is None:
            thread = threading.current_thread()
            target = getattr(thread, "_target", None)
            pool = getattr(target, "__module__", None) == POOL
            reader = self._own.reader = LoaderThread(ref(thread), pool)
            self.forget_dead()
            self.readers.append(reader)
            self._watch_queues()
        return reader

    def _meet(self, reader: LoaderThread, iterator: Any) -> None:
        known = self._made_by(iterator)
        reader.loader, reader.reading = (None, None) if known is None else known
        if known is None:
            reader.trouble = reader.trouble or "it reads a loader in a way that is not known"
        if not reader.pool and any(
            one is not reader and one.is_alive and one.iterator() is iterator for one in self.readers
        ):
            reader.trouble = reader.trouble or "several threads read one loader"
        reader.iterator = ref(iterator)
        reader.began = next(self._order)
        reader.passes += 1
        if reader.carried:
            reader.carried = False
        else:
            reader.instead, reader.given = None, int(iterator._num_yielded)
            reader.kept.clear()
        reader.ended = -1

    def _gate(self, reader: LoaderThread, iterator: Any) -> None:
        """Here a thread is stopped while a checkpoint is made, and on the way back while nobody waits for its batch."""
        with self._turn:
            since = SYSTEM.monotonic() if self.awaiting else 0.0
            while self._is_shut(reader) or self._must_wait(reader, iterator, since):
                reader.waits = True
                self._turn.notify_all()
                self._turn.wait(_LOOK_S)
            reader.waits, reader.fetching = False, True

    def _is_shut(self, reader: LoaderThread) -> bool:
        """Whether a checkpoint is being made. How it hands batches over is to be known, so the first one may pass."""
        return self._stills > 0 and not reader.pool and (reader.queue() is not None or bool(reader.trouble))

    def _must_wait(self, reader: LoaderThread, iterator: Any, since: float) -> bool:
        if not self.awaiting or reader.pool or iterator is None or reader.queue() is None:
            return False
        return not self._training_waits() and SYSTEM.monotonic() - since < _UNMET_S

    def _training_waits(self) -> bool:
        """Whether the thread that trains waits for another one."""
        frame = sys._current_frames().get(self._trains)
        return frame is not None and frame.f_code.co_filename == threading.__file__

    # -- queues ------------------------------------------------------------------------------------------------

    def _watch_queues(self) -> None:
        if self._patched:
            return
        kind = queue.Queue
        for name, mine in (("put", self._putting(kind.put)), ("get", self._getting(kind.get))):
            self._patched.append((name, vars(kind)[name], mine))
            setattr(kind, name, mine)

    def close(self) -> None:
        """Queues are again as they were."""
        self.release()
        for name, original, mine in self._patched:
            if vars(queue.Queue)[name] is mine:
                setattr(queue.Queue, name, original)
        self._patched.clear()

    def _putting(self, original: Callable[..., None]) -> Callable[..., None]:
        own = self._own

        def put(self: Any, item: Any, block: bool = True, timeout: float | None = None) -> None:
            reader: LoaderThread | None = getattr(own, "reader", None)
            if reader is None or reader.pool:
                return original(self, item, block, timeout)
            if reader.drops(item):
                return None
            handed = readers._hands_over(reader, self, item)
            try:
                original(self, item, block, timeout)
            except BaseException:
                if handed is not NOTHING:
                    reader.in_hand.appendleft(handed)
                raise
            finally:
                reader.putting = NOTHING
            if reader.ended >= 0:
                reader.ended += 1
            return None

        readers = self
        put.__wrapped__ = original  # type: ignore[attr-defined]
        return put

    def _hands_over(self, reader: LoaderThread, into: Any, item: Any) -> Any:
        """Just before a thread that reads a loader puts `item` into a queue; the batch that it is of."""
        if reader.queue() is not into:
            fills = self._fills.get(into)
            plain = type(into)._put is queue.Queue._put and type(into)._get is queue.Queue._get
            if reader.queue() is not None or (fills is not None and fills.is_alive) or not plain:
                reader.trouble = reader.trouble or NOT_QUEUED
            if reader.queue() is None:
                reader.variables = plain_variables(threading.get_ident())
            reader.queue = ref(into)
            self._fills[into] = reader
        reader.putting = item
        if not is_batch(item) or not reader.in_hand:
            return NOTHING
        handed = reader.in_hand.popleft()
        beside = (
            [one for one in item if type(one) is int] if type(item) is tuple and item is not handed else []
        )
        if beside and reader.beside and beside != reader.beside:  # `enumerate` is asked in the thread
            reader.trouble = reader.trouble or "it counts its batches"
        reader.beside = beside
        return handed

    def _getting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        fills, readers = self._fills, self

        def get(self: Any, block: bool = True, timeout: float | None = None) -> Any:
            reader = fills.get(self)
            if reader is None:
                return original(self, block, timeout)
            while True:
                item = original(self, block, timeout)
                reader.taken = next(readers._order)
                if not any(one is item for one in reader.stale):
                    return item
                reader.stale = [one for one in reader.stale if one is not item]

        get.__wrapped__ = original  # type: ignore[attr-defined]
        return get

    # -- stopping them -----------------------------------------------------------------------------------------

    @contextmanager
    def still(self) -> Iterator[None]:
        """Inside, none of them makes anything, as far as they can be stopped."""
        if not self.readers or threading.get_ident() != self._trains or os.getpid() != self._owner:
            yield
            return
        with self._turn:
            self._stills += 1
            self._wait_for_quiet()
        try:
            yield
        finally:
            with self._turn:
                self._stills -= 1
                self._turn.notify_all()

    def wait_for(self, there: Callable[[], bool]) -> None:
        """Wait until it is so, but not for long."""
        until = SYSTEM.monotonic() + _PATIENCE_S
        with self._turn:
            while not there() and SYSTEM.monotonic() < until:
                self._turn.wait(_LOOK_S)

    def _wait_for_quiet(self) -> None:
        began = SYSTEM.monotonic()
        places: dict[int, Any] = {}
        while True:
            busy = [one for one in self.readers if not self._is_quiet(one)]
            if not busy:
                return
            now = SYSTEM.monotonic()
            for one in busy:
                place = waits_at(one)
                if place != places.get(id(one)) or place is None:
                    places[id(one)], one.since = place, now
                elif now - one.since > _ELSEWHERE_S:  # it waits for something of its own
                    one.trouble = one.trouble or NOT_QUEUED
                if now - began > _PATIENCE_S:
                    one.trouble = one.trouble or "it was busy for too long when a checkpoint was made"
            self._turn.wait(_LOOK_S)

    @staticmethod
    def _is_quiet(reader: LoaderThread) -> bool:
        if reader.waits or reader.trouble or not reader.is_alive:
            return True
        if reader.ended >= 0 and reader.putting is NOTHING and waits_at(reader) is not None:
            return True
        if reader.pool:
            return is_idle(reader)
        full = reader.queue()
        return reader.putting is not NOTHING and full is not None and 0 < full.maxsize <= len(full.queue)

    def release(self) -> None:
        """Everything is in its place, or will not be: they go on."""
        with self._turn:
            self.awaiting = False
            self._turn.notify_all()

    def forget_dead(self) -> None:
        """Those that have ended, whose batches are all taken, and whose loader another thread has read since.

        The last one of a loader tells a resume that the pass which begins there on the way back has come to its end.
        """
        self.readers = [
            one for one in self.readers if one.is_alive or is_filled(one) or self._is_last_of_loader(one)
        ]

    def _is_last_of_loader(self, one: LoaderThread) -> bool:
        ended_well = one.ended >= 0 and not one.trouble and one.queue() is not None
        return ended_well and not any(
            one.began < other.began and same_loader(one, other) for other in self.readers
        )

    def matters(self) -> list[LoaderThread]:
        """Those whose batches are still to be trained, in the order in which their passes began.

        One that was left in the middle of its pass waits for ever: another has begun since then, and is taken from.
        """
        self.forget_dead()
        own = sorted((one for one in self.readers if not one.pool), key=lambda one: one.began)
        return [
            one
            for one in own
            if not any(
                0 <= one.taken < other.began <= other.taken and same_loader(one, other) for other in own
            )
        ]
