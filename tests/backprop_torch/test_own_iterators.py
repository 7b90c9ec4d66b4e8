"""Loaders that begin their passes in a way of their own: an iterator that never ends, and one that is wrapped."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from backprop_core.loop.held_iterators import HeldIterators
from backprop_core.loop.loop_state import LoopState
from backprop_core.script_state.namespace import DictNamespace
from backprop_torch.framework import TorchFramework
from backprop_torch.loader_passes import TorchLoaderPasses


class _Repeated:
    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from iter(self.sampler)


class _Endless(DataLoader[Any]):
    """As timm's and ultralytics' loaders: one iterator for all epochs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        object.__setattr__(self, "batch_sampler", _Repeated(self.batch_sampler))
        self.iterator = super().__iter__()

    def __len__(self) -> int:
        return len(self.batch_sampler.sampler)  # type: ignore[union-attr]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for _ in range(len(self)):
            yield next(self.iterator)


class _Wrapped:
    def __init__(self, iterator: Any) -> None:
        self._inside = iterator

    def __iter__(self) -> _Wrapped:
        return self

    def __next__(self) -> Any:
        return next(self._inside)


class _Wrapping(DataLoader[Any]):
    """As torch_geometric's loaders."""

    def _get_iterator(self) -> Any:
        return _Wrapped(super()._get_iterator())


_DATA = TensorDataset(torch.arange(12))


def _trained(loader: Any, count: int) -> list[list[int]]:
    batches = []
    for (batch,) in islice(loader, count):
        torch.rand(3)  # as dropout draws between the passes
        batches.append(batch.tolist())
    return batches


def test_an_endless_iterator_that_a_loader_holds_goes_on_in_its_second_epoch() -> None:
    """A sampler that begins anew draws a seed then, so its place is counted from there and not from the very beginning."""
    passes, loop_state = TorchLoaderPasses(TorchFramework().reading), LoopState([TorchFramework()])
    with passes.watch(loop_state):
        torch.manual_seed(0)
        loader = _Endless(_DATA, batch_size=3, shuffle=True)
        _trained(loader, 4)
        _trained(loader, 2)
        saved = HeldIterators([passes], [], [], loop_state).capture(
            [DictNamespace({"loader": loader}, "main")]
        )
        random = torch.get_rng_state()
        theirs = _trained(loader, 2) + _trained(loader, 4)

        torch.manual_seed(1)
        again = _Endless(_DATA, batch_size=3, shuffle=True)
        held, spaces = HeldIterators([passes], [], [], loop_state), [DictNamespace({"loader": again}, "main")]
        assert held.put(held.begin(saved, spaces), spaces) == []
        torch.set_rng_state(random)
        assert _trained(again, 2) + _trained(again, 4) == theirs


def test_a_wrapped_iterator_begins_behind_the_batches_that_were_given() -> None:
    """What `_get_iterator` gives need not be torch's: its first batches are loaded once more and thrown away."""
    loop_state = LoopState([TorchFramework()])
    loader = _Wrapping(_DATA, batch_size=3, shuffle=True)
    reading = TorchFramework().reading(loader, loop_state)
    assert reading is not None
    theirs = _trained(reading.begin(None, 0, lambda: None), 4)
    position = reading.position(midway=False)
    torch.manual_seed(5)
    assert _trained(reading.begin(position, 2, lambda: None), 4) == theirs[2:]


class _Feed:
    """Makes its iterator when it is first asked for a batch."""

    def __init__(self) -> None:
        self.loader = DataLoader(_DATA, batch_size=3, shuffle=True)
        self.batches: Any = None

    def get(self) -> list[int]:
        if self.batches is None:
            self.batches = iter(self.loader)
        (batch,) = next(self.batches)
        return batch.tolist()  # type: ignore[no-any-return]


def test_an_iterator_that_is_made_when_it_is_first_needed_is_made_again() -> None:
    """A resumed process has not come there yet: it is begun over the loader that lies where its loader lay."""
    frameworks = [TorchFramework()]
    passes, loop_state = TorchLoaderPasses(frameworks[0].reading), LoopState([*frameworks])
    with passes.watch(loop_state):
        torch.manual_seed(0)
        feed = _Feed()
        feed.get()
        saved = HeldIterators([passes], frameworks, [], loop_state).capture(
            [DictNamespace({"feed": feed}, "main")]
        )
        theirs = [feed.get() for _ in range(3)]

        torch.manual_seed(1)
        again = _Feed()
        held, spaces = (
            HeldIterators([passes], frameworks, [], loop_state),
            [DictNamespace({"feed": again}, "main")],
        )
        assert held.put(held.begin(saved, spaces), spaces) == []
        assert [again.get() for _ in range(3)] == theirs
