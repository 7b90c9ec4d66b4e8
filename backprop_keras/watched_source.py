"""A source of batches that is code of the script's, a PyDataset or a Python generator, and what it has given.

TensorFlow asks such a source ahead of training, in a thread of its own, so what the source changes is ahead of the last
trained batch. A checkpoint therefore holds the state of the source as it is, and with it the batches that were given and not
trained. A resumed process is given these first; the source is held back behind them until its state is there.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import keras
import numpy as np

from backprop_keras.stand_in import StandInDataset

_NOTHING: Final = object()


class HeldBack:
    """Counts what a source gives in a pass, and holds it back until it may go on.

    Args:
        trained: batches of the pass that are trained at least; what came before is let go of.

    Attributes:
        early: called in the thread that trains if that asks for a batch which is held back: brings the state back now.
        passed: so many batches of the pass are trained, and are not asked for.
    """

    def __init__(self, trained: Callable[[], int]) -> None:
        self.early: Callable[[], None] = lambda: None
        self._trained = trained
        self._lock = threading.RLock()
        self._open = threading.Event()
        self._open.set()
        self._training_thread = threading.get_ident()
        self._given = 0
        self._ahead: deque[tuple[int, Any]] = deque()
        self._opens_at = self.passed = 0

    def still(self) -> AbstractContextManager[Any]:
        """Inside, the source gives nothing: what it changes can be looked at."""
        return self._lock

    def begin_pass(self) -> None:
        """The next batch is the first of a pass."""
        with self._lock:
            self._given = self._opens_at = self.passed = 0
            self._ahead.clear()

    def position(self, trained: int) -> dict[str, Any]:
        """What `resume` needs, of a source that is `still`."""
        ahead = [_plain(batch) for number, batch in self._ahead if number >= trained]
        return {"given": max(self._given, trained), "ahead": ahead}

    def resume(self, saved: Mapping[str, Any] | None, trained: int) -> None:
        """The next pass is to be held back where it was."""
        if saved is None:  # a checkpoint from before sources were watched
            return
        with self._lock:
            self._opens_at, self.passed = int(saved["given"]), trained
            self._ahead = deque(enumerate(saved["ahead"], trained))
            self._open.clear()

    def go_on(self) -> None:
        """The state is there, or nobody waits for it any more."""
        self._open.set()

    def _is_held(self) -> bool:
        return self._given >= self._opens_at and not self._open.is_set()

    def _wait(self) -> None:
        if threading.get_ident() == self._training_thread:
            self.early()
            self._open.set()
        else:
            self._open.wait()

    def _gave(self, batch: Any) -> Any:
        self._given += 1
        trained = self._trained()
        while self._ahead and self._ahead[0][0] < trained:
            self._ahead.popleft()
        self._ahead.append((self._given - 1, batch))
        return batch

    def _kept(self) -> Any:
        """The batch that is due, if an earlier process was given it already."""
        found = next((batch for number, batch in self._ahead if number == self._given), _NOTHING)
        if found is not _NOTHING:
            self._given += 1
        return found


def _plain(batch: Any) -> Any:
    return keras.tree.map_structure(lambda one: one if one is None else np.asarray(one), batch)


class WatchedDataset(StandInDataset):
    """Stands in for a PyDataset without workers. Batches that are trained already are not asked for.

    Attributes:
        held: what it has given.
    """

    def __init__(self, behind: Any, trained: Callable[[], int]) -> None:
        super().__init__(behind)
        self.held = HeldBack(trained)
        self._placeholder: Any = None

    def pass_over(self, batches: int, placeholder: Any) -> None:
        """The first batches of the pass that begins are trained: whoever asks gets a placeholder."""
        self.held.passed, self._placeholder = batches, placeholder

    def __getitem__(self, index: int) -> Any:
        held = self.held
        while True:
            with held.still():
                if not held._is_held() or any(number == held._given for number, _ in held._ahead):
                    return self._next(index)
            held._wait()

    def _next(self, index: int) -> Any:
        kept = self.held._kept()
        if kept is not _NOTHING:
            return kept
        if self.held._given < self.held.passed:
            self.held._given += 1
            return self._placeholder
        return self.held._gave(self.behind[index])


class HeldGenerator(HeldBack):
    """Stands in for what makes a pass over a Python generator, which only its own code can bring to a place.

    Attributes:
        behind: Keras' own.
        is_replayed: it has been brought there.
    """

    def __init__(self, behind: Callable[[], Iterator[Any]], trained: Callable[[], int]) -> None:
        super().__init__(trained)
        self.behind = behind
        self.is_replayed = False
        self._inner: Iterator[Any] | None = None
        self._asked: deque[Any] = deque()

    def replay(self, passes: Iterable[int], saved: Mapping[str, Any] | None, trained: int) -> None:
        """Have the generator give what it had given, while the script's state is still that of its beginning.

        Args:
            passes: how many batches earlier passes took.
            saved: the position of the pass that goes on, if one does.
            trained: batches of that which are trained.
        """
        self.is_replayed = True
        for taken in passes:
            deque(itertools.islice(self.behind(), taken), maxlen=0)
        if saved is not None:
            self._inner = iter(self.behind())
            given = itertools.islice(self._inner, int(saved["given"]))
            self._asked = deque(
                given, maxlen=int(saved["given"]) - trained + 1
            )  # one stands in for those that are trained

    def __call__(self) -> Iterator[Any]:
        inner, self._inner = self._inner, None
        return self._batches(iter(self.behind()) if inner is None else inner)

    def position(self, trained: int) -> dict[str, Any]:
        return {"given": max(self._given, trained), "ahead": []}

    def _batches(self, inner: Iterator[Any]) -> Iterator[Any]:
        while True:
            with self._lock:
                batch = self._next(inner)
            if batch is _OVER:
                return
            if batch is _NOTHING:
                self._wait()
            else:
                yield batch

    def _next(self, inner: Iterator[Any]) -> Any:
        if self._asked and self._given < self._opens_at:
            self._given += 1
            return self._asked[0] if self._given < self.passed else self._asked.popleft()
        if self._is_held():
            return _NOTHING
        batch = next(inner, _OVER)
        self._given += batch is not _OVER
        return batch


_OVER: Final = object()
