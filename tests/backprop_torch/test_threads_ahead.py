"""Threads that read a loader ahead of training: what of theirs a checkpoint holds, what comes back, and what is named."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from backprop_core.loop.loop_state import LoopState
from backprop_torch.framework import TorchFramework
from backprop_torch.loader_passes import TorchLoaderPasses

PATIENCE_S = 20.0


class Own:
    """A batch of the script's."""

    def __init__(self, items: Any) -> None:
        self.items = items


def loader(**more: Any) -> DataLoader[Any]:
    return DataLoader(list(range(20)), batch_size=2, shuffle=True, **more)  # type: ignore[arg-type]


@contextmanager
def watched() -> Iterator[TorchLoaderPasses]:
    framework = TorchFramework()
    passes = TorchLoaderPasses(framework.reading)
    with passes.watch(LoopState([framework])):
        yield passes


def reading(source: Any, size: int = 2) -> queue.Queue[Any]:
    """A thread reads `source` into a queue, and says None at the end."""
    ready: queue.Queue[Any] = queue.Queue(size)

    def fill() -> None:
        for batch in source:
            ready.put(batch)
        ready.put(None)

    threading.Thread(target=fill, daemon=True).start()
    return ready


def rest_of(ready: queue.Queue[Any]) -> list[Any]:
    """All that comes up to the end."""
    found = []
    while (item := ready.get(timeout=PATIENCE_S)) is not None:
        found.append(item.tolist())
    return found


@pytest.mark.parametrize("taken", [1, 4, 9, 10])
def test_another_thread_goes_on_behind_the_last_batch_that_was_taken(taken: int) -> None:
    """In the middle of a pass, when all of it is made, and when all of it is taken; and in the same order."""
    with watched() as passes:
        torch.manual_seed(3)
        ready = reading(loader())
        for _ in range(taken):
            ready.get(timeout=PATIENCE_S)
        with passes.threads.still():
            saved = passes.threads.capture()
        assert passes.threads.unkept() == []
        wanted = rest_of(ready)
    assert len(wanted) == 10 - taken
    with watched() as passes:
        torch.manual_seed(4)  # another order, if it were not put back
        passes.threads.expect()
        ready = reading(loader())
        ready.get(timeout=PATIENCE_S)
        missing = passes.threads.restore(saved, LoopState([TorchFramework()]))
        passes.threads.release()
        assert missing == []
        assert rest_of(ready) == wanted


def test_a_pass_that_had_ended_makes_nothing_more_here() -> None:
    """The way back begins it, and would go on making batches, with random numbers that training is to have."""
    with watched() as passes:
        ready = reading(loader())
        rest_of(ready)
        with passes.threads.still():
            saved = passes.threads.capture()
    made: list[int] = []
    with watched() as passes:
        passes.threads.expect()
        ready = reading(loader(collate_fn=lambda items: [made.append(len(items)), torch.tensor(items)][1]))
        thread = threading.enumerate()[-1]
        ready.get(timeout=PATIENCE_S)
        assert passes.threads.restore(saved, LoopState([TorchFramework()])) == []
        before = len(made)
        passes.threads.release()
        thread.join(PATIENCE_S)
        assert (len(made), ready.qsize(), thread.is_alive()) == (before, 0, False)


def test_a_thread_that_had_not_begun_to_read_is_named() -> None:
    """Its order was drawn at another time."""
    with watched() as passes:
        ready = reading(loader())
        ready.get(timeout=PATIENCE_S)
        missing = passes.threads.restore([], LoopState([TorchFramework()]))
        assert "had not begun to read" in " ".join(missing)


def test_queues_are_as_they_were_behind_it() -> None:
    """Only while passes are watched, and a thread reads a loader, are their methods others."""
    before = queue.Queue.put, queue.Queue.get
    with watched():
        assert (queue.Queue.put, queue.Queue.get) == before
        rest_of(reading(loader()))
        assert (queue.Queue.put, queue.Queue.get) != before
    assert (queue.Queue.put, queue.Queue.get) == before


def _named(passes: TorchLoaderPasses) -> str:
    with passes.threads.still():
        passes.threads.capture()
    return " ".join(str(one) for one in passes.threads.unkept())


def test_a_batch_that_cannot_be_stored_is_named() -> None:
    """It is made again on a resume."""
    with watched() as passes:
        ready = reading(loader(collate_fn=Own))
        ready.get(timeout=PATIENCE_S)
        assert "`the batch fetched ahead` (Own) may change" in _named(passes)


def test_a_thread_whose_batches_nobody_can_follow_is_named() -> None:
    """It hands them over in a list of its own, or counts them itself."""
    with watched() as passes:
        told, goes_on = threading.Event(), threading.Event()
        into: list[Any] = []

        def collect() -> None:
            for batch in loader():
                into.append(batch)
                told.set()
                goes_on.wait(PATIENCE_S)

        threading.Thread(target=collect, daemon=True).start()
        assert told.wait(PATIENCE_S)
        assert "in another way than through one queue.Queue" in _named(passes)
        goes_on.set()
    with watched() as passes:
        ready = reading(enumerate(loader()))
        ready.get(timeout=PATIENCE_S)
        assert "it counts its batches" in _named(passes)
