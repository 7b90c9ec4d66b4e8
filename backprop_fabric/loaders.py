"""Passes over loaders that Fabric has set up: an ordinary loader inside, batches moved to a device, and passes counted.

The number of a pass is what a `DistributedSampler` shuffles by, so it belongs to the place in the data. Fabric begins a pass
when its first batch is asked for, in a generator.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import GeneratorType, ModuleType
from typing import Any

from backprop_core.ports.loaders import LoaderReading, RandomnessKeeper
from backprop_fabric.needs import wrappers, wrappers_of
from backprop_torch.dataloader_state import LoaderRest


class FabricReading:
    """One pass over a loader of Fabric's. Implements `LoaderReading`.

    Args:
        inner: of the loader inside.
    """

    def __init__(self, loader: Any, module: ModuleType, inner: LoaderReading) -> None:
        self._loader = loader
        self._module = module
        self._inner = inner
        self._number: int | None = None
        self.length, self.batch_size = inner.length, inner.batch_size

    @property
    def caveat(self) -> str:
        """Of the loader inside."""
        return self._inner.caveat

    def begin(
        self, saved: Any | None, skip: int, resume_randomness: Callable[[], None] | None
    ) -> Iterator[Any]:
        loader, inner = self._loader, None
        if saved is not None:
            loader._num_iter_calls, inner = saved["number"], saved["inner"]
        self.note_start()
        self._module._set_sampler_epoch(loader._dataloader, self._number)
        loader._num_iter_calls += 1
        return self._moved(self._inner.begin(inner, skip, resume_randomness))

    def _moved(self, batches: Iterator[Any]) -> Iterator[Any]:
        device = self._loader._device
        if device is None:
            return batches
        move = self._module.move_data_to_device
        return (move(batch, device) for batch in batches)

    def note_start(self) -> None:
        """A pass begins now, whoever begins it."""
        self._number = self._loader._num_iter_calls
        self._inner.note_start()

    def position(self, *, midway: bool) -> Any:
        return {"number": self._number, "inner": self._inner.position(midway=midway)}


class FabricPasses:
    """Passes over Fabric's loaders that a script begins by itself. Implements `LoaderPasses`.

    None need be remembered: one that has begun is a pass over the loader inside, and one that has not begins when asked.
    """

    threads = None

    def watch(self, randomness: RandomnessKeeper) -> AbstractContextManager[None]:
        return nullcontext()

    def made_by(self, iterator: object) -> tuple[Any, LoaderReading] | None:
        return None

    def waits(self, iterator: object) -> Any | None:
        if type(iterator) is not GeneratorType or inspect.getgeneratorstate(iterator) != inspect.GEN_CREATED:
            return None
        codes = [module._FabricDataLoader.__iter__.__code__ for module in wrappers()]
        frame = iterator.gi_frame if iterator.gi_code in codes else None
        return None if frame is None else frame.f_locals.get("self")

    def given_by(self, iterator: object) -> int | None:
        return None

    def remember(self, iterator: object, loader: object, reading: LoaderReading) -> None: ...

    def is_loader(self, source: object) -> bool:
        return wrappers_of(source) is not None


class FabricLoaderRest:
    """What of a loader of Fabric's decides its next pass."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._inner = LoaderRest(loader._dataloader)

    def capture(self) -> object:
        return {"inner": self._inner.capture(), "number": self._loader._num_iter_calls}

    def mismatch(self, state: Any) -> str | None:
        return (
            self._inner.mismatch(state["inner"]) if isinstance(state, Mapping) else "is not of such a loader"
        )

    def restore(self, state: Any) -> None:
        self._inner.restore(state["inner"])
        self._loader._num_iter_calls = state["number"]
