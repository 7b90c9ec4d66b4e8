"""Skipping batches without computing them, where the data allows it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

import keras
import numpy as np

from backprop_core.loop.index_position import PassedOver, pass_over
from backprop_keras.rng_state import python_from_array
from backprop_keras.stand_in import StandInDataset


class _Placeholders(StandInDataset):
    """A dataset that answers one and the same batch for indices whose batch would be thrown away."""

    def __init__(self, dataset: Any, trained: frozenset[int], batch: Any) -> None:
        super().__init__(dataset)
        self._trained, self._batch = trained, batch

    def __getitem__(self, index: int) -> Any:
        return self._batch if index in self._trained else self.behind[index]


class PassingOver:
    """A PyDataset is not asked for the batches that are trained already.

    Attributes:
        shuffles_in_a_thread: its order is drawn by a thread that starts with the epoch, so the generators have to be left
            alone until the first batch has come.
    """

    def __init__(self, adapter: Any, trained: frozenset[int]) -> None:
        self._adapter = adapter
        self._dataset = adapter.py_dataset
        self.shuffles_in_a_thread = adapter.enqueuer is not None
        if trained:
            untrained = next((i for i in range(self._dataset.num_batches) if i not in trained), 0)
            self._use(_Placeholders(self._dataset, trained, self._dataset[untrained]))

    @staticmethod
    def of(adapter: Any, batches: int, epoch_start: Any, first: Any) -> PassingOver | None:
        """How to pass over `batches` batches of `adapter`; None if its batches are cheap or cannot be told apart."""
        if type(adapter).__name__ != "PyDatasetAdapter":
            return None
        number = adapter.py_dataset.num_batches
        if number is None or not batches or adapter.enqueuer is None:  # a WatchedDataset answers by itself
            return PassingOver(adapter, frozenset())
        order = list(range(number))
        if adapter.shuffle:
            generator = random.Random()
            drawn_from = epoch_start if adapter.enqueuer is not None or first is None else first
            python_from_array(generator, drawn_from["python"])
            generator.shuffle(order)
        return PassingOver(adapter, frozenset(order[:batches]))

    def _use(self, dataset: Any) -> None:
        self._adapter.py_dataset = dataset
        if self._adapter.enqueuer is not None:
            self._adapter.enqueuer.py_dataset = dataset

    def end(self) -> None:
        """The real dataset is asked again."""
        self._use(self._dataset)


def placeholder_for(adapter: Any) -> Any:
    """A batch that looks to Keras like one of a PyDataset's, without asking that; nobody trains with it."""
    signature = getattr(adapter, "_output_signature", None)  # TensorFlow compares every batch with it
    if signature is None:
        return np.zeros((1, 1)), np.zeros((1,), np.int64)
    batch = keras.tree.map_structure(_zeros, signature)
    return batch[:2] if adapter.class_weight is not None and isinstance(batch, tuple) else batch


def _zeros(specification: Any) -> Any:
    if not hasattr(specification, "shape"):  # of a part that may be missing
        return None
    shape = [1] if specification.shape.rank is None else [1 if n is None else n for n in specification.shape]
    return np.zeros(shape, specification.dtype.as_numpy_dtype)


def loader_behind(loader: Any, skip: int, *, placeholders: int, before: Callable[[], None]) -> Iterator[Any]:
    """An iterator of a torch DataLoader that stands behind `skip` batches, and first gives `placeholders` times None.

    Args:
        before: called before the first batch is asked for.
    """
    from torch.utils.data import BatchSampler, IterableDataset

    if skip and loader.num_workers > 0 and not isinstance(loader.dataset, IterableDataset):
        name = "batch_sampler" if loader.batch_sampler is not None else "sampler"
        sampler = getattr(loader, name)
        vars(loader)[name] = PassedOver(sampler, skip, BatchSampler)  # the attribute itself cannot be set
        try:  # workers are given their indices as soon as they are made, so all is drawn here
            return chain(repeat(None, placeholders), iter(loader))
        finally:
            vars(loader)[name] = sampler
    iterator = iter(loader)
    before()
    if skip:
        indexed = not isinstance(loader.dataset, IterableDataset)
        pass_over(iterator._sampler_iter if indexed else iterator, skip, BatchSampler)
    return chain(repeat(None, placeholders), iterator)
