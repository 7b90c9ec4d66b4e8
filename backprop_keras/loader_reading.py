"""Passes over a torch DataLoader with workers, whose iterators the framework makes that the loader is from.

It knows the workers: their random generators, and what they change in their copies of the dataset, go on where they were.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

import keras

from backprop_core.ports.framework import frameworks_in_use
from backprop_core.ports.loaders import LoaderReading
from backprop_keras import rng_state
from backprop_keras.batch_iterators import TellsFirst

_STAYING = (
    "The order of the batches is exact. Random numbers drawn inside workers that stay (persistent_workers=True) are not, "
    "because their generators are as old as the process ('backprop docs keras')."
)


class LoaderWithWorkers:
    """The passes over one loader."""

    def __init__(self, loader: Any, reading: LoaderReading) -> None:
        self._loader, self._reading = loader, reading
        self._unread: Any = None

    @staticmethod
    def of(adapter: Any) -> LoaderWithWorkers | None:
        """That of a data adapter of Keras', where Keras reads the loader itself; None where it does not, or has none.

        A loader that keeps its place itself, as torchdata's does, is read as Keras reads it.
        """
        loader = _with_workers(adapter)
        if loader is None or keras.backend.backend() != "torch" or _keeps_its_place(loader):
            return None
        reading = _reading_of(loader)
        return None if reading is None else LoaderWithWorkers(loader, reading)

    @property
    def caveat(self) -> str:
        """What `resume` could not bring back of the workers, in a sentence for the user; empty where it brought all."""
        return self._reading.caveat

    def begin(self) -> Iterator[Any]:
        """An iterator of a new pass."""
        return self._reading.begin(None, 0, None)

    def position(self, *, is_open: bool, given: int) -> Any:
        """Where the pass is that was begun last, with its workers; None where the next does not depend on that.

        Args:
            is_open: training goes on in it. Else it is over, or it is the one that Keras begins at the end of an epoch and
                does not read: workers that stay make its first batches.
            given: batches that it has given.
        """
        if is_open or (self._loader.persistent_workers and not given):
            return self._reading.position(midway=False)
        return None

    def begin_unread(self, saved: Any) -> str:
        """Between two passes: the one that nobody reads begins as it did. What is lost, in a sentence, or empty.

        Args:
            saved: what `position` has told of it, or None.
        """
        if saved is None:
            return _STAYING if self._loader.persistent_workers else ""
        self._unread = self._reading.begin(saved, 0, None)
        return self.caveat

    def resume(self, saved: Any, before: int, trained: int, asked_first: Callable[[], None]) -> Iterator[Any]:
        """An iterator behind batches of the pass that `position` told of; it first gives a None for each of this epoch's.

        Args:
            saved: None, of an earlier version: the pass begins as everything stands. What its workers were is not known.
            before: batches that earlier epochs have taken.
            trained: batches of this epoch that are trained.
            asked_first: called before the first batch of the pass is asked for, if none was.
        """
        if saved is None:
            self._reading.note_start()
            saved = self._reading.position(midway=False)
        iterator = self._reading.begin(saved, before + trained, None)
        if before + trained:
            return chain(repeat(None, trained), iterator)
        return TellsFirst(iterator, asked_first)


def lost_in_workers(adapter: Any, *, midway: bool) -> str:
    """What a resume does not bring back of a loader's workers and `LoaderWithWorkers` does not tell; empty: nothing.

    Args:
        midway: it goes on in a pass. Workers that do not stay begin with their pass.
    """
    loader = _with_workers(adapter)
    if loader is None or not (midway or loader.persistent_workers):
        return ""
    if keras.backend.backend() == "torch":
        reading = _reading_of(loader) if _keeps_its_place(loader) else None
        return "" if reading is None else reading.caveat
    # Trained batches are loaded again. New workers do again what those of the pass have done.
    return _STAYING if loader.persistent_workers else ""


def _with_workers(adapter: Any) -> Any:
    """The torch DataLoader behind a data adapter of Keras', if it has workers; else None."""
    loader = getattr(adapter, "_dataloader", None)
    return loader if getattr(loader, "num_workers", 0) else None


def _keeps_its_place(loader: Any) -> bool:
    return callable(getattr(loader, "state_dict", None))


def _reading_of(loader: Any) -> LoaderReading | None:
    told = (framework.reading(loader, _Randomness()) for framework in frameworks_in_use())
    return next((one for one in told if one is not None), None)


class _Randomness:
    """Every global generator, as Keras' adapter keeps them."""

    def randomness(self) -> dict[str, object]:
        return rng_state.capture()

    def set_randomness(self, states: Any) -> None:
        rng_state.restore(states)


class _Known:
    """A loader, to Keras, which reads nothing of it but iterators. What their workers do is known from the first on."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    def __iter__(self) -> Iterator[Any]:
        try:
            known = LoaderWithWorkers.of(self._adapter)
        except Exception:  # the loader works without us
            known = None
        return iter(self._adapter._dataloader) if known is None else known.begin()


def know_workers_that_stay() -> None:
    """From now on the workers that stay from pass to pass are known from their first batch on. Keras looks at one, to build
    a model, before any callback hears of the training, and workers that have drawn cannot be asked for what they drew.
    """
    if keras.backend.backend() != "torch":
        return
    adapters = sys.modules.get("keras.src.trainers.data_adapters")
    kind: Any = getattr(adapters, "TorchDataLoaderAdapter", object)
    original = vars(kind).get("get_torch_dataloader")
    if original is None or hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def get_torch_dataloader(self: Any) -> Any:
        stay = getattr(getattr(self, "_dataloader", None), "persistent_workers", False)
        return _Known(self) if stay else original(self)

    kind.get_torch_dataloader = get_torch_dataloader
