"""The loaders that one counted loop goes over: begun so that their place can be found again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

from backprop_core.errors import StateMismatchError
from backprop_core.loop.asked_iterators import asked_iterators
from backprop_core.loop.asked_state import AskedState
from backprop_core.loop.loop_state import LoopState
from backprop_core.loop.running_loop import RunningLoop
from backprop_core.ports.loaders import LoaderPasses


class LoopReadings:
    """Begins the loaders of one loop. Implements `sources.Readings`.

    Args:
        passes: what the frameworks remember of passes that the script has begun by itself.
        say: tells the user what is not as it was.
        late: the loop begins at its first item, and is brought to its place when its first iteration has run.
    """

    def __init__(
        self,
        loop: RunningLoop,
        loop_state: LoopState,
        passes: list[LoaderPasses],
        say: Callable[[str], None],
        *,
        late: bool = False,
    ) -> None:
        self._late = late
        self._replaced: list[tuple[Any, Iterable[Any]]] = []
        self._say = say
        self._asked_state = AskedState(passes, loop_state.translators)
        self._loop = loop
        self._loop_state = loop_state
        self._passes = passes
        saved = loop.saved.opening if loop.saved is not None else None
        self._saved: list[Any] = list(saved["readings"]) if saved is not None else []
        self._sizes: list[Any] = list(saved.get("sizes", ())) if saved is not None else []
        self._given: list[Any] = list(saved.get("given", ())) if saved is not None else []
        self._asked: list[Any] = list(saved.get("asked", [])) if saved is not None else []

    def begin(self, source: Any, skip: int) -> Iterable[Any] | None:
        """An iterator behind `skip` items of a loader, or of an iterator that a loader has just made."""
        loader, noted = source, None
        for passes in self._passes:
            made = passes.made_by(source)
            if made is not None:
                loader, noted = made
                break
            if (waiting := passes.waits(source)) is not None:
                loader = waiting
                break
            if passes.is_loader(source):
                break
        else:
            return None
        twice = next((new for old, new in self._replaced if old is source), None)
        if twice is not None:  # zip(batches, batches)
            return twice
        saved = self._saved.pop(0) if self._saved else None
        given = self._given.pop(0) if self._given else None
        if noted is not None and saved is None and not skip:
            self._loop.readings.append(noted)
            self._loop.iterators.append(source)
            self._replaced.append((source, source))
            return source  # type: ignore[no-any-return]
        if saved is None and skip:
            return None
        if noted is not None and given is not None and self._loop.innermost and not self._late:
            skip = given  # its body may have asked for further batches
        iterator = self._begun(loader, saved, skip)
        if iterator is not None:
            self._loop.iterators.append(None if noted is None else iterator)
            if noted is not None:
                self._replaced.append((source, iterator))
        return iterator

    def ask(self, source: Any, skip: int) -> Iterable[Any] | None:
        """`source`, if it can only be asked, counted from here on; asked until it has given what it had given."""
        asked = asked_iterators()
        if not asked.is_one_shot(source):
            return None
        self._loop.asked.append(source)
        saved = self._asked.pop(0) if self._asked else None
        items: Iterator[Any] = asked.counted(source)
        if saved is None:
            next(islice(items, skip - 1, skip), None) if skip else None
            return items
        if self._late:
            self._asked_state.arm(source, saved)
            return items
        trouble, last = self._asked_state.bring(source, saved)
        if trouble:
            self._say(f"Not restored: the iterable of the loop at {self._loop.site.where} ({trouble}).")
        return chain(last, items) if self._loop.on_the_way else items

    def _check_size(self, size: int | None, skip: int) -> None:
        """Its place is a number of batches, so they are to be as large as they were."""
        before = self._sizes.pop(0) if self._sizes else None
        if skip and before is not None and size is not None and before != size:
            raise StateMismatchError(
                f"The loader of the loop at {self._loop.site.where} yields batches of {size}, but yielded batches of "
                f"{before} when the checkpoint was made, {skip} batches into its pass.",
                f"Resume with batches of {before}, or start a new run.",
            )

    def _begun(self, loader: Any, saved: Any, skip: int) -> Iterable[Any] | None:
        loop_state = self._loop_state
        for framework in loop_state.frameworks:
            reading = framework.reading(loader, loop_state)
            if reading is not None:
                loop_state.meet_loader(loader, None)  # what it holds comes back with the script's variables
                self._check_size(reading.batch_size, skip)
                self._loop.readings.append(reading)
                iterator = reading.begin(saved, skip, None)
                if skip and reading.caveat:
                    self._say(reading.caveat)
                for passes in self._passes:
                    passes.remember(iterator, loader, reading)
                return iterator
        return None
