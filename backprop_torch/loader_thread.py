"""One thread of the script's that reads loaders: what it has made, and how much of that it has handed over."""

from __future__ import annotations

import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import field
from typing import Any, Final

from backprop_core.ports.loaders import LoaderReading
from backprop_core.quick_dataclass import dataclass

NOTHING: Final = object()
MOST_IN_HAND: Final = 16
"""Whoever has more in hand does not hand over a batch for each batch."""
NOT_QUEUED: Final = "it hands its batches over in another way than through one queue.Queue"
GATE: Final = __file__.replace("loader_thread", "reader_threads")
POOL: Final = "concurrent.futures.thread"


@dataclass(slots=True, eq=False)
class LoaderThread:
    """One thread that reads loaders.

    Attributes:
        thread: gives it, as long as it exists.
        pool: it takes what it does from an executor, which hands the results over.
        loader: the one that it reads, and `reading` knows how the pass began.
        iterator: gives torch's own iterator that it asks.
        given: batches of the running pass that it has got.
        ended: what it has handed over since the pass ended; -1: it has not ended.
        passes: how many it has read.
        in_hand: batches that it has got and not handed over.
        queue: gives the queue through which it does.
        putting: what it is handing over just now.
        waits: it is stopped before it fetches.
        fetching: it fetches.
        variables: plain ones of its functions, as they were when it first handed something over.
        trouble: why nobody knows what it has made and not handed over.
        beside: numbers that it hands over together with a batch.
        since: when it was first seen to wait where it waits.
        began, taken: when its pass began, and when something was last taken from its queue; in a common order.
        instead: what it gets its batches from on a resume, behind those that were `kept`; `carried`: from its next pass on.
        stale: what it was handing over when everything was put back; `drop`: batches that it had in hand then, and
            `drop_ended`: what it hands over once more at the end of the pass.
    """

    thread: Callable[[], threading.Thread | None]
    pool: bool
    loader: Any = None
    reading: LoaderReading | None = None
    iterator: Callable[[], Any] = field(default=lambda: None)
    given: int = 0
    ended: int = -1
    passes: int = 0
    in_hand: deque[Any] = field(default_factory=deque)
    queue: Callable[[], queue.Queue[Any] | None] = field(default=lambda: None)
    putting: Any = NOTHING
    waits: bool = False
    fetching: bool = False
    variables: dict[Any, Any] = field(default_factory=dict)
    trouble: str = ""
    beside: list[int] = field(default_factory=list)
    since: float = 0.0
    began: int = 0
    taken: int = -1
    instead: Iterator[Any] | None = None
    kept: deque[Any] = field(default_factory=deque)
    carried: bool = False
    stale: list[Any] = field(default_factory=list)
    drop: int = 0
    drop_ended: int = 0

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        thread = self.thread()
        return thread is not None and thread.is_alive()

    def fetch(self, original: Callable[[Any], Any], iterator: Any) -> Any:
        """The next batch of its pass."""
        try:
            batch = self.kept.popleft() if self.kept else self._made(original, iterator)
        except StopIteration:
            self.ended, self.instead = 0, None
            raise
        self.given += 1
        if self.pool:
            return batch
        self.in_hand.append(batch)
        if len(self.in_hand) > MOST_IN_HAND:
            self.in_hand.clear()
            self.trouble = self.trouble or NOT_QUEUED
        return batch

    def _made(self, original: Callable[[Any], Any], iterator: Any) -> Any:
        note = getattr(self.reading, "note_batch", None)
        if note is not None:
            note(self.given)
        return original(iterator) if self.instead is None else next(self.instead)

    def drops(self, item: Any) -> bool:
        """Whether `item` is of the time before everything was put back, and is not to be handed over."""
        for number, one in enumerate(self.stale):
            if one is item:
                del self.stale[number]
                return True
        is_old = is_batch(item) and self.drop > 0
        once_more = self.ended >= 0 and self.drop_ended > 0
        self.drop -= is_old
        self.drop_ended -= once_more
        self.ended += once_more
        return is_old or once_more


def waits_at(reader: LoaderThread) -> tuple[int, int] | None:
    """Where it waits for another thread, other than to hand a batch over; None where it does not."""
    thread = reader.thread()
    if thread is None or thread.ident is None or reader.fetching or reader.putting is not NOTHING:
        return None
    frame = around = sys._current_frames().get(thread.ident)
    if frame is None or frame.f_code.co_filename != threading.__file__:
        return None
    while around is not None:
        if around.f_code.co_filename == GATE:  # at the gate
            return None
        around = around.f_back
    return id(frame), frame.f_lasti


def is_idle(reader: LoaderThread) -> bool:
    """Whether a thread of an executor has nothing to do."""
    thread = reader.thread()
    frame = None if thread is None or thread.ident is None else sys._current_frames().get(thread.ident)
    if frame is None:
        return True
    waiting = [one for one in getattr(thread, "_args", ()) if hasattr(one, "qsize")]
    return (
        frame.f_globals.get("__name__") == POOL
        and frame.f_code.co_name == "_worker"
        and not any(one.qsize() for one in waiting)
    )


def is_batch(item: object) -> bool:
    """Whether it may hold data: what tells the end of a pass is None, a word or an error."""
    return not (
        item is None or isinstance(item, bool | int | str | bytes | BaseException) or type(item) is object
    )


def is_filled(reader: LoaderThread) -> bool:
    filled = reader.queue()
    return filled is not None and bool(filled.queue)


def same_loader(one: LoaderThread, other: LoaderThread) -> bool:
    return one.loader is other.loader or getattr(one.loader, "dataset", one) is getattr(
        other.loader, "dataset", other
    )
