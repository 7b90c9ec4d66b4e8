"""Passes over torchdata's StatefulDataLoader, which keeps its position itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from backprop_core.loop.replay import begun
from backprop_core.ports import pass_position
from backprop_core.ports.loaders import RandomnessKeeper
from backprop_core.ports.pass_position import PassPosition
from backprop_torch.dataloader_state import generators_of, pass_start, restore_start
from backprop_torch.held_batch import MadeAhead
from backprop_torch.loader_facts import loader_batch_size, loader_length
from backprop_torch.loader_skip import iterator_behind


class StatefulReading:
    """One pass over a torchdata StatefulDataLoader, which keeps its position itself.

    Making its iterator draws from the global generator, so the randomness is set after it.

    Attributes:
        made: the batches that are fetched ahead of the loop, where something stands between it and the loader.
        by_state: whether its own state tells its place; otherwise its batches are made again.
    """

    def __init__(self, loader: Any, randomness: RandomnessKeeper) -> None:
        self._loader = loader
        self._randomness = randomness
        self._state: Any = None
        self.length, self.batch_size = loader_length(loader), loader_batch_size(loader)
        self.caveat = STATEFUL_CAVEAT if loader.num_workers > 0 else ""
        self.made: MadeAhead | None = None
        self.by_state = True
        self._start: PassPosition | None = None
        self._generators = generators_of(loader)

    def begin(
        self, saved: Any | None, skip: int, resume_randomness: Callable[[], None] | None
    ) -> Iterator[Any]:
        if saved is None:
            return self._begin(None, skip, None)
        with self._generators.resuming():
            return self._begin(pass_position.stateful_from_state(saved), skip, resume_randomness)

    def _begin(
        self, before: PassPosition | None, skip: int, resume_randomness: Callable[[], None] | None
    ) -> Iterator[Any]:
        if before is not None:
            before = replace(before, workers_kept=False)
            restore_start(self._loader, self._randomness, self._generators, before)
            if before.state is not None and skip:
                self._loader.load_state_dict(before.state)
        self.note_start()
        if before is not None and before.state is None:
            iterator = iterator_behind(self._loader, skip, replay=True)
        else:
            iterator = iter(self._loader)
        if before is not None and resume_randomness is not None:
            iterator = iterator if skip else begun(iterator)
            resume_randomness()
        return iterator

    def note_start(self) -> None:
        """A pass begins now, whoever begins it."""
        self._start = pass_start(self._loader, self._randomness, self._generators)

    def made_ahead(self) -> Any:
        """The batches that are fetched and not given, in a checkpoint's form; None where there are none."""
        return None if self.made is None else self.made.to_state()

    def position(self, *, midway: bool) -> Any:
        if self._start is None:
            return None
        # The loader counts the batch that is being worked on, which a loop inside it will want again.
        state = None if midway or not self.by_state else self._loader.state_dict()
        return pass_position.stateful_to_state(replace(self._start, state=state))


STATEFUL_CAVEAT = (
    "The order of the batches is exact. Random numbers drawn inside the StatefulDataLoader's workers are not, unless the "
    "dataset keeps them in its own state_dict ('backprop docs pytorch')."
)
