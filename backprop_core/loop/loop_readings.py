"""The loaders that one counted loop goes over: begun so that their place can be found again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from backprop_core.loop.counted_loops import RunningLoop
from backprop_core.loop.loop_state import Keeping
from backprop_core.ports.framework import LoaderPasses


class LoopReadings:
    """Begins the loaders of one loop. Implements `sources.Readings`.

    Args:
        passes: what the frameworks remember of passes that the script has begun by itself.
    """

    def __init__(self, loop: RunningLoop, keeping: Keeping, passes: list[LoaderPasses]) -> None:
        self._loop = loop
        self._keeping = keeping
        self._passes = passes
        saved = loop.saved.opening if loop.saved is not None else None
        self._saved: list[Any] = list(saved["readings"]) if saved is not None else []

    def begin(self, source: Any, skip: int) -> Iterable[Any] | None:
        """An iterator behind `skip` items of a loader, or of an iterator that a loader has just made."""
        loader, noted = source, None
        for passes in self._passes:
            made = passes.made_by(source)
            if made is not None:
                loader, noted = made
                break
            if passes.is_loader(source):
                break
        else:
            return None
        saved = self._saved.pop(0) if self._saved else None
        if noted is not None and saved is None and not skip:
            self._loop.readings.append(noted)
            return source  # type: ignore[no-any-return]
        if saved is None and skip:
            return None
        return self._begun(loader, saved, skip)

    def _begun(self, loader: Any, saved: Any, skip: int) -> Iterable[Any] | None:
        keeping = self._keeping
        for framework in keeping.frameworks:
            reading = framework.reading(loader, keeping)
            if reading is not None:
                keeping.meet_loader(loader, None)  # what it holds comes back with the script's variables
                self._loop.readings.append(reading)
                iterator = reading.begin(saved, skip, lambda: None)
                for passes in self._passes:
                    passes.remember(iterator, loader, reading)
                return iterator
        return None
