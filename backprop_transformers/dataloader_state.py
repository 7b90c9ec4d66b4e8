"""The training loader, watched so that its place can be found again in another process, batch for batch.

accelerate's loader fetches one batch ahead of the one it gives: at a boundary a batch may have been made that nobody has
trained. It is kept with the place, since making it may change what lies anywhere in the script. To come back, the random
generators are set to where they were when the pass began, the batches are skipped by index, and then the generators are set
to where they were at the boundary.

A batch of a kind that cannot be stored is made again, under the state of the generators from before it was made. So is one
that a worker has made: each worker goes on from its own generators behind the last batch that was trained.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

from accelerate.data_loader import DataLoaderDispatcher
from torch.utils.data import DataLoader

from backprop_core.ports import pass_position
from backprop_core.ports.loaders import RandomnessKeeper
from backprop_core.ports.pass_position import Draws, PassPosition
from backprop_core.script_state.unkept import Unkept
from backprop_torch.dataloader_state import LoaderRest, generators_of, pass_start, restore_start
from backprop_torch.held_batch import HeldBatch, batch_from_state
from backprop_torch.loader_facts import loader_length
from backprop_torch.loader_skip import iterator_behind
from backprop_torch.pass_workers import STAYING_CAVEAT, PassWorkers
from backprop_torch.worker_states import made_noting


class TrainLoaderWatch:
    """Watches one training loader from its next pass on.

    Args:
        loader: as Trainer uses it: accelerate's wrapper, or whatever an overridden `get_train_dataloader` gave.
        say: tells the user, once, what of a pass does not come back.

    Attributes:
        loader: the same.
        watching: it lets itself be watched; otherwise nothing is known about its place.
        dispatches: one process reads for all, so that they have to begin, skip and read together.
    """

    def __init__(self, loader: Any, randomness: RandomnessKeeper, say: Callable[[str], None]) -> None:
        self.loader = loader
        self._inner = getattr(loader, "base_dataloader", loader)
        self._randomness = randomness
        self._say = say
        self._generators = generators_of(self._inner)
        self._stock = isinstance(self._inner, DataLoader)
        self._stateful = callable(getattr(self._inner, "load_state_dict", None))
        self._notes_draws = not getattr(self._inner, "num_workers", 0)
        self._workers = PassWorkers(self._inner, replay=self._stateful) if self._stock else None
        self._last_workers: Any = None
        self._workers_come_back = True
        self._start: PassPosition | None = None
        self._newest: Draws | None = None
        self._rest: Any = None
        self._fetched = 0
        self._made = HeldBatch()
        self._resume: tuple[Mapping[str, Any], int, Callable[[], None]] | None = None
        self._at_rest = False
        self.dispatches = isinstance(loader, DataLoaderDispatcher) and loader.state.num_processes > 1
        self.watching = not self.dispatches and self._install()

    def _install(self) -> bool:
        """The loader becomes one of a class derived from its own, whose `__iter__` asks us."""
        kind = type(self._inner)
        original = getattr(kind, "_backprop_original", kind)
        try:
            self._inner.__class__ = _watched(original)
            vars(self._inner)["_backprop_watch"] = self
        except TypeError:  # no ordinary Python object
            return False
        return True

    def uninstall(self) -> None:
        """The loader is what it was."""
        if self.watching:
            self._inner.__class__ = getattr(type(self._inner), "_backprop_original", type(self._inner))
            vars(self._inner).pop("_backprop_watch", None)

    # -- what it tells -----------------------------------------------------------------------------------------

    def length(self) -> float:
        """Batches in one pass; infinite where nobody knows before."""
        try:
            return len(self.loader)
        except (TypeError, NotImplementedError):
            return float("inf")

    def pass_is_over(self) -> bool:
        """Whether accelerate's wrapper says that the batch it gave last was the last one."""
        return bool(getattr(self.loader, "end_of_dataloader", False))

    def position(self, trained: int) -> dict[str, Any] | None:
        """Where the running pass is after `trained` batches, as values that a checkpoint can hold; None before any."""
        if self._start is None:
            return None
        ahead = max(0, self._fetched - trained)
        newest = self._newest if ahead else None
        held = self._made.to_state() if ahead == 1 else None
        workers = self._workers_behind(ahead) if self._last_workers is None else self._last_workers
        return pass_position.transformers_to_state(
            replace(self._start, prefetched=ahead, newest=newest, held=held, workers=workers)
        )

    def _workers_behind(self, ahead: int) -> Any:
        return None if self._workers is None else self._workers.to_state(ahead=ahead)

    def start_of_pass(self) -> Any:
        """The random generators from before the running pass; None if none runs."""
        return None if self._start is None else self._start.begun.everybodys

    def rest(self) -> Any:
        """What decides the next pass, besides the global generators."""
        return LoaderRest(self._inner).capture() if self._stock else None

    def reached(self) -> frozenset[int]:
        """The objects that are kept with the loader, by identity."""
        return self._generators.reached() if self._stock else frozenset()

    def unkept(self) -> list[Unkept]:
        """What of the loader's parts had changed when it was last told, and cannot be kept."""
        return [*self._generators.unkept(), *self._made.unkept()]

    # -- the way back ------------------------------------------------------------------------------------------

    def restore_rest(self, saved: Any) -> None:
        """What `rest` told."""
        if saved is None or not self._stock or self._generators.mismatch(saved["own"]) is not None:
            return
        rest = LoaderRest(self._inner)
        # To start workers is no pass: its place would be told instead of the checkpoint's.
        with self._resting():
            rest.restore(saved)
        self._workers_come_back = rest.workers_come_back
        self._rest = saved["own"]

    def fits(self, saved: Any) -> bool:
        """Whether a pass that `position` was told of can be found again in this loader."""
        if not self.watching or saved is None:
            return False
        begun = pass_position.transformers_from_state(saved).begun
        return self._generators.mismatch(begun.own) is None

    def resume(self, saved: Mapping[str, Any], trained: int, when_there: Callable[[], None]) -> None:
        """The next pass is to go on behind `trained` batches.

        Args:
            when_there: sets the global generators and the script's state, which finding the place has changed.
        """
        self._resume = (saved, trained, when_there)

    # -- passes ------------------------------------------------------------------------------------------------

    def begin(self, make_iterator: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        """In place of the loader's `__iter__`."""
        if self._at_rest:
            return make_iterator()
        resumed, self._resume = self._resume, None
        come_back, self._workers_come_back = self._workers_come_back, True
        if resumed is None:
            if not come_back:
                self._say(STAYING_CAVEAT)
            with self._resting():
                self._start = pass_start(self._inner, self._randomness, self._generators)
            self._fetched = 0
            self._made.drop()
            self._last_workers = None
            return _Fetching(self._new_iterator(make_iterator), self)
        with self._resting(), self._generators.resuming():
            return self._resumed(*resumed)

    @contextmanager
    def _resting(self) -> Iterator[None]:
        """Inside, whoever asks the loader for an iterator begins no pass of the training."""
        before, self._at_rest = self._at_rest, True
        try:
            yield
        finally:
            self._at_rest = before

    def _new_iterator(self, make_iterator: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        if self._workers is None:
            return make_iterator()
        iterator: Iterator[Any] = made_noting(lambda loader: make_iterator(), self._inner)
        self._workers.follow(iterator)
        return iterator

    def _resumed(
        self, saved: Mapping[str, Any], trained: int, when_there: Callable[[], None]
    ) -> Iterator[Any]:
        position = pass_position.transformers_from_state(saved)
        self._start, self._newest = position, position.newest
        restore_start(self._inner, self._randomness, self._generators, position)
        held = batch_from_state(position.held)
        if held is None:
            iterator, ahead = self._made_again(position, trained)
        else:
            iterator, ahead = self._behind(trained + 1, replay=False), [held]
        when_there()
        if self._rest is not None:  # as it was at the boundary, behind the batches that were made ahead
            self._generators.restore(self._rest)
        self._fetched = trained
        return _Fetching(iterator, self, ahead)

    def _made_again(self, position: PassPosition, trained: int) -> tuple[Iterator[Any], Sequence[Any]]:
        own = None if self._newest is None else self._newest.own
        iterator = self._behind(trained, replay=self._generators.lacks_more(own))
        if self._newest is not None:
            self._randomness.set_randomness(self._newest.everybodys)
            self._generators.restore_before_batch(own)
        return iterator, list(islice(iterator, position.prefetched))

    def _behind(self, skip: int, *, replay: bool) -> Iterator[Any]:
        if self._workers is None:
            iterator: Iterator[Any] = iter(self._inner)
            next(islice(iterator, skip - 1, skip), None) if skip else None
            return iterator
        go_on = self._workers.resumed(self._start, skip, loader_length(self._inner))
        iterator = iterator_behind(self._inner, skip, replay=replay or self._stateful, workers=go_on)
        self._workers.follow(iterator)
        if self._workers.caveat:
            self._say(self._workers.caveat)
        return iterator

    def fetches(self) -> None:
        """The next batch is being made."""
        if self._notes_draws:
            self._newest = Draws(self._randomness.randomness(), self._generators.before_batch())

    def fetched(self, batch: Any) -> None:
        """It is there."""
        self._fetched += 1
        if self._notes_draws and self._inner is not self.loader:  # what workers change stays with them
            self._made.hold(batch)

    def is_over(self) -> None:
        """There is no other."""
        self._made.drop()
        self._last_workers = self._workers_behind(0)


class _Fetching:
    """An iterator that tells the watch of each batch.

    Args:
        ahead: batches that were made already and are given first.
    """

    def __init__(self, iterator: Iterator[Any], watch: TrainLoaderWatch, ahead: Sequence[Any] = ()) -> None:
        self._iterator = iterator
        self._watch = watch
        self._ahead = deque(ahead)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._ahead:
            batch = self._ahead.popleft()
        else:
            self._watch.fetches()
            try:
                batch = next(self._iterator)
            except StopIteration:
                self._watch.is_over()
                raise
        self._watch.fetched(batch)
        return batch


def _watched(kind: type) -> type:
    def begin(self: Any) -> Any:
        return self._backprop_watch.begin(lambda: kind.__iter__(self))  # type: ignore[attr-defined]

    parts = {"__iter__": begin, "_backprop_original": kind, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), parts)
