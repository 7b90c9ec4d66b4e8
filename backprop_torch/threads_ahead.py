"""What threads that read ahead have made and nobody has trained: in a checkpoint, and back in a new process's queues."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from backprop_core.ports.loaders import LoaderReading, RandomnessKeeper
from backprop_core.script_state.unkept import Unkept, made_twice, read_by_thread
from backprop_torch.held_batch import NotStoredError, batch_from_state, form_of
from backprop_torch.loader_thread import NOT_QUEUED, NOTHING, LoaderThread, is_batch
from backprop_torch.passes import signature_of
from backprop_torch.reader_threads import ReaderThreads
from backprop_torch.thread_frames import counts_in

_MOST_QUEUED: Final = 64
"""Of longer queues a checkpoint would become large."""


class ThreadsAhead:
    """Takes and gives back what such threads have in hand. Implements the port `ReadsAhead`.

    The batches in the queue are kept as the thread has made them, and those that it has not handed over yet as the loader
    has. A resume goes on behind them. Where one cannot be stored all of them are made again.

    Args:
        threads: what is known of them.
        reading: how a loader is read with a position.
        remember: told of each iterator that is made here, of its loader and its reading.
    """

    def __init__(
        self,
        threads: ReaderThreads,
        reading: Callable[[object, RandomnessKeeper], LoaderReading | None],
        remember: Callable[[object, object, LoaderReading], None],
    ) -> None:
        self._threads = threads
        self._reading = reading
        self._remember = remember
        self._unkept: list[Unkept] = []

    def still(self) -> AbstractContextManager[None]:
        """Inside, they make nothing."""
        return self._threads.still()

    def holds(self, value: object) -> bool:
        """Whether `value` is a queue that such a thread fills."""
        return self._threads.fills(value)

    def expect(self) -> None:
        """What they make from now on is thrown away, until everything is in its place."""
        self._threads.awaiting = True

    def release(self) -> None:
        """They go on."""
        self._threads.release()

    def unkept(self) -> list[Unkept]:
        """What of the last capture does not come back."""
        return self._unkept

    def capture(self) -> list[dict[str, Any]]:
        """Where each stands, and what it has made ahead."""
        self._unkept, found = [], []
        for one in self._threads.matters():
            if one.loader is None and not one.trouble:
                continue
            trouble = self._trouble(one)
            if trouble:
                self._unkept.append(read_by_thread(_name_of(one), trouble))
            else:
                found.append(self._state_of(one))
        return found

    @staticmethod
    def _trouble(one: LoaderThread) -> str:
        if one.trouble:
            return one.trouble
        if callable(getattr(one.loader, "load_state_dict", None)):
            return "it reads a StatefulDataLoader"
        if one.queue() is None:
            return "" if not one.given else NOT_QUEUED
        thread = one.thread()
        if thread is None or thread.ident is None or not one.is_alive:
            return ""
        return counts_in(thread.ident, passes=one.passes, before=one.variables)

    def _state_of(self, one: LoaderThread) -> dict[str, Any]:
        filled = one.queue()
        queued = (
            [] if filled is None else [item for item in filled.queue if all(item is not s for s in one.stale)]
        )
        if one.putting is not NOTHING and all(one.putting is not s for s in one.stale):
            queued.append(one.putting)
        ended = 0 if one.ended < 0 else one.ended + (one.putting is not NOTHING)
        state = {"looks": signature_of(one.loader), "over": one.ended >= 0, "ended": ended}
        given = one.given - getattr(one.reading, "behind", 0)
        try:
            if len(queued) > _MOST_QUEUED:
                raise NotStoredError(f"{len(queued)} batches")
            forms = {
                "queued": [form_of(item) for item in queued],
                "in_hand": [form_of(batch) for batch in one.in_hand],
            }
        except NotStoredError as error:
            return {**state, **self._made_again(one, given, queued, str(error))}
        return {**state, "position": _position(one, midway=False), "given": given, **forms}

    def _made_again(self, one: LoaderThread, given: int, queued: list[Any], kind: str) -> dict[str, Any]:
        self._unkept.append(made_twice(kind))
        trained = given - len(one.in_hand) - sum(map(is_batch, queued))
        if trained < 0:
            self._unkept.append(read_by_thread(_name_of(one), "it has batches of two passes in hand"))
        position = _position(one, midway=True)
        again = {"over": False, "ended": 0, "queued": [], "in_hand": []}
        return {**again, "position": position, "given": max(0, trained)}

    # -- giving back -------------------------------------------------------------------------------------------

    def restore(self, saved: Sequence[Mapping[str, Any]], randomness: RandomnessKeeper) -> list[str]:
        """Have those that read here go on where they stood; what could not be put back, and why.

        Random generators are to be set behind it.
        """
        looks = [state["looks"] for state in saved if _is_awaited(state)]
        self._threads.wait_for(lambda: all(len(self._with_looks(one)) >= looks.count(one) for one in looks))
        with self._threads.still():
            return self._put_all_back(saved, randomness)

    def _with_looks(self, looks: str) -> list[LoaderThread]:
        """Those that have handed something over, of loaders that look so."""
        here = [one for one in self._threads.matters() if one.loader is not None and one.queue() is not None]
        return [one for one in here if signature_of(one.loader) == looks]

    def _put_all_back(self, saved: Sequence[Mapping[str, Any]], randomness: RandomnessKeeper) -> list[str]:
        taken: list[LoaderThread] = []
        missing = []
        for number, state in enumerate(saved):
            rest = sum(one["looks"] == state["looks"] for one in saved[number:])
            fitting = [one for one in self._with_looks(state["looks"]) if all(one is not t for t in taken)]
            if not fitting:
                if not _is_awaited(state):
                    continue
                missing.append("what a thread has read ahead (no thread reads such a loader here)")
                continue
            reader = fitting[max(0, len(fitting) - rest)]
            taken.append(reader)
            trouble = self._put_back(reader, state, randomness)
            if trouble:
                missing.append(f"what a thread has read ahead ({trouble})")
        if any(
            one.given and one.is_alive and not self._is_known(one, saved) for one in self._threads.matters()
        ):
            missing.append(
                "what a thread has read ahead (it had not begun to read when the checkpoint was made)"
            )
        return missing

    @staticmethod
    def _is_known(one: LoaderThread, saved: Sequence[Mapping[str, Any]]) -> bool:
        """Whether it has nothing to be put back, or the checkpoint holds a thread that read such a loader."""
        if one.ended >= 0 or one.trouble or one.loader is None or one.queue() is None:
            return True
        return any(state["looks"] == signature_of(one.loader) for state in saved)

    def _put_back(self, reader: LoaderThread, state: Mapping[str, Any], randomness: RandomnessKeeper) -> str:
        filled = reader.queue()
        if reader.trouble:
            return reader.trouble
        if not reader.is_alive and not state["over"]:
            return "it has come to its end here"
        over_here = reader.ended >= 0
        if filled is None and (state["queued"] or state["given"]):
            return "it has handed nothing over here"
        if over_here and not (state["over"] or reader.waits):
            return "it has come to its end here"
        reader.drop, reader.drop_ended = len(reader.in_hand), int(state["ended"])
        reader.in_hand.clear()
        if reader.putting is not NOTHING:
            reader.stale.append(reader.putting)
        if filled is not None:
            _fill(filled, [batch_from_state(form) for form in state["queued"]])
        if over_here and state["over"]:
            reader.drop_ended = max(0, reader.drop_ended - reader.ended - (reader.putting is not NOTHING))
            return ""
        reader.kept = deque(batch_from_state(form) for form in state["in_hand"])
        reader.instead, reader.carried = self._begun(reader, state, randomness), over_here
        reader.given = int(state["given"]) - len(reader.kept)
        return ""

    def _begun(
        self, reader: LoaderThread, state: Mapping[str, Any], randomness: RandomnessKeeper
    ) -> Iterator[Any]:
        reading = self._reading(reader.loader, randomness)
        assert reading is not None
        make = getattr(reader.reading, "make", None)
        if make is not None:
            reading.make = make  # type: ignore[attr-defined]
        source = reading.begin(state["position"], int(state["given"]), None)
        reader.reading = reading
        self._remember(source, reader.loader, reading)
        return source


def _is_awaited(state: Mapping[str, Any]) -> bool:
    """Whether something of it is still to be trained; else its pass may be over here, too, or not begun."""
    return bool(state["queued"]) or not state["over"]


def _position(one: LoaderThread, *, midway: bool) -> Any:
    return None if one.reading is None else one.reading.position(midway=midway)


def _fill(filled: queue.Queue[Any], items: list[Any]) -> None:
    with filled.mutex:
        filled.unfinished_tasks += len(items) - len(filled.queue)
        filled.queue.clear()
        filled.queue.extend(items)
        filled.not_empty.notify_all()
        filled.not_full.notify_all()


def _name_of(one: LoaderThread) -> str:
    thread = one.thread()
    return "a thread" if thread is None else f"thread {thread.name}"
