"""Passes over a DataLoader that can be found again, batch for batch.

RandomSampler draws its seed from the global generator when its iterator is first asked, and the loader draws the workers'
base seed before that. So a pass is begun again under the randomness that reigned when it began; the batches already trained
are skipped by index, without being loaded; then the randomness is set to what it was at the boundary. In that order.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from backprop_core.loop.replay import begun
from backprop_core.ports import pass_position
from backprop_core.ports.loaders import RandomnessKeeper
from backprop_core.ports.pass_position import Draws, PassPosition
from backprop_torch.delegating_loader import set_by_pass
from backprop_torch.generators import GeneratorsTracked
from backprop_torch.held_batch import MadeAhead
from backprop_torch.loader_facts import loader_batch_size, loader_length
from backprop_torch.loader_skip import iterator_behind
from backprop_torch.loader_state import LoaderState, loader_state
from backprop_torch.pass_workers import PassWorkers
from backprop_torch.staying_workers import make_workers_that_stay, restore_workers, start_noted_workers
from backprop_torch.worker_states import workers_between_passes

_GENERATORS = (torch.Generator, random.Random)


def generators_of(loader: Any) -> LoaderState:
    """What of a loader, its samplers, its dataset and its collate function decides a pass, generators and all else."""
    return loader_state(loader, _generators_as_attributes(loader))


def _generators_as_attributes(loader: Any) -> GeneratorsTracked:
    """Those that checkpoints of earlier versions hold: of a loader, its samplers and its dataset, in a fixed order."""
    found: dict[int, Any] = {}
    numpy = sys.modules.get("numpy")
    kinds = _GENERATORS if numpy is None else (*_GENERATORS, numpy.random.Generator)
    for owner in _owners(loader):
        if _is_seeded(owner):
            continue
        for value in getattr(owner, "__dict__", {}).values():
            if isinstance(value, kinds):
                found.setdefault(id(value), value)
    return GeneratorsTracked(list(found.values()))


_INNER = {
    "sampler": ("sampler", "batch_sampler"),
    "batch_sampler": ("sampler", "batch_sampler"),
    "dataset": ("dataset",),
}


def _owners(loader: Any) -> list[Any]:
    """The loader, its samplers and datasets, and those that they wrap."""
    owners = [loader]
    for name, inner in _INNER.items():
        owner = getattr(loader, name, None)
        while owner is not None and all(owner is not known for known in owners):
            owners.append(owner)
            owner = next((held for of in inner if (held := getattr(owner, of, None)) is not None), None)
    return owners


def _is_seeded(owner: Any) -> bool:
    """Whether it is a sampler that seeds its generator in each pass, with a seed that it drew long before: accelerate's."""
    return isinstance(owner, Sampler) and isinstance(getattr(owner, "initial_seed", None), int)


def _seed_of(loader: Any) -> int | None:
    return next((owner.initial_seed for owner in _owners(loader) if _is_seeded(owner)), None)


def _restore_seed(loader: Any, seed: int | None) -> None:
    for owner in _owners(loader):
        if seed is not None and _is_seeded(owner):
            owner.initial_seed = seed


def _told_of_epochs(loader: Any) -> Any | None:
    """The sampler whose order depends on the epoch that it was told; the loader's own, or one that a batch sampler holds."""
    return next((o for o in _owners(loader) if isinstance(o, Sampler) and hasattr(o, "set_epoch")), None)


class LoaderRest:
    """What of a loader decides its next pass: its generators, and whether its workers run already.

    Attributes:
        workers_come_back: those that `restore` had to start are where they were.
    """

    def __init__(self, loader: Any) -> None:
        self.workers_come_back = True
        self._loader = loader
        self._inner = vars(loader).get("base_dataloader", loader)  # accelerate's loader holds an ordinary one
        self._generators = generators_of(loader)

    def capture(self) -> object:
        inner = self._inner
        stayed = inner.persistent_workers and inner._iterator is not None
        holds_ahead = inner is not self._loader and not getattr(self._loader, "end_of_dataloader", False)
        return {
            "own": self._generators.capture(),
            "stayed": stayed,
            "seed": _seed_of(self._loader),
            "iteration": getattr(self._loader, "iteration", None),
            "workers": None if holds_ahead else workers_between_passes(inner),
        }

    def mismatch(self, state: Any) -> str | None:
        return self._generators.mismatch(state["own"])

    def restore(self, state: Any) -> None:
        if state["stayed"]:
            self.workers_come_back = make_workers_that_stay(self._inner, state.get("workers"))
        _restore_seed(self._loader, state.get("seed"))
        if isinstance(state.get("iteration"), int):
            self._loader.iteration = state["iteration"]
        self._generators.restore(state["own"])


def pass_start(loader: Any, randomness: RandomnessKeeper, generators: LoaderState) -> PassPosition:
    """All that decides the pass which begins now: the global generators, the loader's own, and whether workers stay."""
    generators.let_go()
    start_noted_workers(loader)
    return PassPosition(
        Draws(randomness.randomness(), generators.capture()),
        workers_kept=getattr(loader, "_iterator", None) is not None,
        sampler_epoch=getattr(_told_of_epochs(loader), "epoch", None),
        sampler_seed=_seed_of(loader),
        premade=loader.state_dict() if _is_premade(loader) else None,
    )


def _is_premade(loader: Any) -> bool:
    """Whether a stateful loader has made the iterator of its next pass already, because it was asked for its state."""
    return bool(getattr(loader, "_initial_iter_for_state_dict", False))


def _restore_premade(loader: Any, premade: Any) -> None:
    """Such an iterator is there if the pass had one, and no other. It draws when it is made."""
    if premade is None and not _is_premade(loader):
        return
    loader.load_state_dict({} if premade is None else premade)
    if premade is not None:
        loader.state_dict()


def restore_start(
    loader: Any,
    randomness: RandomnessKeeper,
    generators: LoaderState,
    start: PassPosition,
    *,
    after_others: bool = False,
) -> None:
    """Make the next iterator of `loader` begin as the pass did whose position this is.

    Args:
        after_others: the passes before it were made again, too, so that workers that run are where it found them.
    """
    _restore_premade(loader, start.premade)
    run_on = after_others and start.workers_kept and getattr(loader, "_iterator", None) is not None
    if start.premade is None and not run_on:
        restore_workers(loader, start)
    told = _told_of_epochs(loader)
    if isinstance(start.sampler_epoch, int) and told is not None:
        told.set_epoch(start.sampler_epoch)
    _restore_seed(loader, start.sampler_seed)
    randomness.set_randomness(start.begun.everybodys)
    generators.restore(start.begun.own)


class StockLoaderReading:
    """One pass over a stock DataLoader.

    Args:
        replay: batches that are already trained are loaded again and thrown away, rather than skipped by index.

    Attributes:
        make: makes an iterator where the loader's own `__iter__` does not; None: it does.
        cycle: batches after which the sampler of an endless pass begins anew, drawing from the generators; 0: it is not one.
        behind: batches before the present cycle, which `position` does not go back to.
        made: the batches that are fetched ahead of the loop, where something stands between it and the loader.
    """

    def __init__(
        self, loader: DataLoader[Any], randomness: RandomnessKeeper, *, replay: bool = False
    ) -> None:
        self.make: Callable[[], Any] | None = None
        self.cycle = self.behind = 0
        self.made: MadeAhead | None = None
        self._loader = loader
        self._randomness = randomness
        self._generators = generators_of(loader)
        self._replay = replay
        self._start: PassPosition | None = None
        self._asked: Any = None
        self.length, self.batch_size = loader_length(loader), loader_batch_size(loader)
        self._workers = PassWorkers(loader, replay=replay)

    @property
    def caveat(self) -> str:
        """What cannot come back: the workers' random generators, where they are not known."""
        return self._workers.caveat

    def begin(
        self, saved: Any | None, skip: int, resume_randomness: Callable[[], None] | None
    ) -> Iterator[Any]:
        if saved is None:
            return self._begin(None, skip, None)
        with self._generators.resuming():
            return self._begin(pass_position.read_from_state(saved), skip, resume_randomness)

    def _begin(
        self, before: PassPosition | None, skip: int, resume_randomness: Callable[[], None] | None
    ) -> Iterator[Any]:
        if before is not None:
            restore_start(self._loader, self._randomness, self._generators, before)
        self.note_start()
        self._asked = None if before is None or before.first is None else before.first.everybodys
        self.behind = 0
        attributes = dict(vars(self._loader))
        iterator = iterator_behind(
            self._loader,
            skip,
            replay=self._replay,
            made=self._as_when_asked,
            make=self.make,
            workers=self._workers.resumed(before, skip, self.length),
        )
        self.follow(iterator)
        if before is not None and resume_randomness is not None:
            iterator = iterator if skip else begun(iterator)
            of_pass = set_by_pass(self._loader, attributes)
            resume_randomness()
            vars(self._loader).update(of_pass)
        return iterator

    def note_start(self) -> None:
        """A pass begins now, whoever begins it."""
        self._start = pass_start(self._loader, self._randomness, self._generators)

    def follow(self, iterator: Any) -> None:
        """`iterator` is what goes over the loader."""
        self._workers.follow(iterator)

    def note_asked(self) -> None:
        """The first batch is asked for: only now does a sampler that shuffles draw its seed."""
        if self._asked is None:
            self._asked = self._randomness.randomness()

    def note_batch(self, number: int) -> None:
        """The batch with this number is asked for."""
        if number == 0:
            self.note_asked()
        elif self.cycle and number % self.cycle == 0:
            self._start = pass_start(self._loader, self._randomness, self._generators)
            self._asked, self.behind = self._start.begun.everybodys, number

    def made_ahead(self) -> Any:
        """The batches that are fetched and not given, in a checkpoint's form; None where there are none."""
        return None if self.made is None else self.made.to_state()

    def _as_when_asked(self) -> None:
        if self._asked is not None:
            self._randomness.set_randomness(self._asked)

    def position(self, *, midway: bool) -> Any:
        if self._start is None:
            return None
        first = None if self._asked is None else Draws(self._asked)
        workers = self._workers.to_state(midway=midway)
        return pass_position.read_to_state(replace(self._start, first=first, workers=workers))
