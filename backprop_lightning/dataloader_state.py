"""The loaders of a CombinedLoader, read so that their place can be found again in another process, batch for batch.

Lightning makes an epoch's iterator, lets hooks run, and asks for the first batch later; a sampler draws its seed when it is
first asked, and the workers' seed is drawn when the iterator is made. So two states of the random generators belong to a
pass: from before the iterator, and from before its first batch. To come back, both are set in their turn, the batches
already trained are skipped by index, and whoever asked for this sets the generators to where they were at the boundary.

Where it does not know a loader's length, Lightning fetches one batch ahead. That one is kept with the place: making it again
would find the script's variables as they were after it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from backprop_core.loop.index_position import PassedOver, pass_over
from backprop_core.ports import pass_position
from backprop_core.ports.loaders import RandomnessKeeper
from backprop_core.ports.pass_position import Draws, PassPosition
from backprop_core.quick_dataclass import dataclass
from backprop_core.script_state.unkept import Unkept
from backprop_torch.dataloader_state import generators_of
from backprop_torch.held_batch import HeldBatch, batch_from_state
from backprop_torch.loader_skip import iterator_behind


@dataclass(slots=True)
class LoaderPass:
    """One pass over one loader.

    Attributes:
        before: the random generators before the iterator was made.
        first: the random generators before the first batch was asked for; None if none was.
        kept_workers: the workers lived on from the pass before.
        yielded: batches handed out.
    """

    before: Draws
    kept_workers: bool
    first: Draws | None = None
    yielded: int = 0


class Watched:
    """One loader as the CombinedLoader's iterator sees it: the same batches, and each pass noted."""

    def __init__(self, loader: Any, randomness: RandomnessKeeper, mends: Callable[[Exception], bool]) -> None:
        self.loader = loader
        self._mends = mends
        self._randomness = randomness
        self._generators = generators_of(loader)
        self._pass: LoaderPass | None = None
        self._stateful = callable(getattr(loader, "state_dict", None)) and callable(
            getattr(loader, "load_state_dict", None)
        )
        self.resume_from: Any = None

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        if self.resume_from is not None:
            saved, self.resume_from = self.resume_from, None
            with self._generators.resuming():
                return self._resumed(saved)
        self._generators.let_go()
        note = LoaderPass(self._draws(), _keeps_workers(self.loader))
        self._pass = note
        return self._counted(iter(self.loader), note)

    def position(self) -> dict[str, Any] | None:
        """Where the running pass is, as values that a checkpoint can hold."""
        note = self._pass
        if note is None:
            return None
        position = PassPosition(
            note.before,
            first=note.first,
            given=note.yielded,
            workers_kept=note.kept_workers,
            rest=self._generators.capture(),
            state=self.loader.state_dict() if self._stateful else None,
        )
        return pass_position.lightning_to_state(position)

    def is_read(self) -> bool:
        """Whether a batch was handed out in the running pass."""
        return self._pass is not None and self._pass.yielded > 0

    def rest(self) -> Any:
        """What changes in the loader from pass to pass, as it is now."""
        return self._generators.capture()

    def unkept(self) -> list[Unkept]:
        """What of it had changed when it was last told, and cannot be kept."""
        return self._generators.unkept()

    def put_rest(self, saved: Any) -> None:
        """What changes in the loader from pass to pass, as it was at the boundary."""
        rest = None if saved is None else pass_position.lightning_from_state(saved).rest
        if rest is not None and self._generators.mismatch(rest) is None:
            self._generators.restore(rest)

    def _counted(self, batches: Iterator[Any], note: LoaderPass) -> Iterator[Any]:
        if note.first is None:
            note.first = self._draws()
        mended_at = -1
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                if not self._can_be_mended() or note.yielded == mended_at or not self._mends(error):
                    raise
                batches, mended_at = self._with_new_workers(note), note.yielded
                continue
            note.yielded += 1
            yield batch

    def _can_be_mended(self) -> bool:
        return isinstance(self.loader, DataLoader) and not self._stateful

    def _with_new_workers(self, note: LoaderPass) -> Iterator[Any]:
        """The batches behind those handed out, from workers that live; the random generators stay as they are."""
        now = self._draws()
        self.loader._iterator = None
        if note.kept_workers:
            iter(self.loader)
        self._set_draws(note.before)
        batches = self._behind(note)
        self._set_draws(now)
        return batches

    def _draws(self) -> Draws:
        return Draws(self._randomness.randomness(), self._generators.capture())

    def _set_draws(self, saved: Draws) -> None:
        self._randomness.set_randomness(saved.everybodys)
        self._generators.restore(saved.own)

    def _resumed(self, saved: Any) -> Iterator[Any]:
        position = pass_position.lightning_from_state(saved)
        note = LoaderPass(position.begun, position.workers_kept, position.first, position.given or 0)
        self._pass = note
        if position.workers_kept:
            iter(self.loader)  # makes the workers, so that the next call only resets them, as it did then
        if self._stateful and position.state is not None:
            self.loader.load_state_dict(position.state)
        self._set_draws(position.begun)
        if self._stateful:
            return self._counted(iter(self.loader), note)
        return self._counted(self._behind(note), note)

    def _behind(self, note: LoaderPass) -> Iterator[Any]:
        loader, skip = self.loader, note.yielded
        stock = isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
        if stock and loader.num_workers > 0:
            with _kept_workers_skip(loader, skip):
                return iterator_behind(loader, skip)
        iterator: Iterator[Any] = iter(loader)
        if note.first is not None:
            self._set_draws(note.first)
        if stock and skip and hasattr(iterator, "_sampler_iter"):
            pass_over(iterator._sampler_iter, skip, BatchSampler)
            iterator._num_yielded = skip  # type: ignore[attr-defined]
        elif skip:
            next(islice(iterator, skip - 1, skip), None)
        return iterator


class CombinedLoaderWatch:
    """Watches all loaders of one CombinedLoader from its next iterator on.

    Args:
        mends: whether an error of a loader says that its workers are gone and it is to have new ones.
    """

    def __init__(
        self, combined: Any, randomness: RandomnessKeeper, mends: Callable[[Exception], bool]
    ) -> None:
        self.combined = combined
        self.watched = [Watched(loader, randomness, mends) for loader in combined.flattened]
        self._earlier: Any = None
        self._ahead = HeldBatch()
        self._held: Any = None
        self._to_resume: Any = None
        self._unsized = False

    def install(self) -> None:
        """The CombinedLoader becomes one that hands its iterator the watched loaders; everybody else sees the real ones."""
        kind = type(self.combined)
        self.combined._backprop_watch = self
        if not hasattr(kind, "_backprop_original"):
            self.combined.__class__ = _watching(kind)

    def uninstall(self) -> None:
        """The CombinedLoader is what it was."""
        self.combined.__class__ = getattr(type(self.combined), "_backprop_original", type(self.combined))
        self.combined._backprop_watch = None

    def resume(self, saved: Any, epoch: int) -> None:
        """The next iterator is to stand where `position` was taken, in an epoch whose samplers were told `epoch`."""
        self._to_resume = saved
        for watched, one in zip(self.watched, saved["loaders"], strict=True):
            watched.resume_from = one
            _set_sampler_epoch(watched.loader, epoch)

    def let_workers_go(self) -> None:
        """An iterator was made that nobody has read: the next one has workers of its own."""
        self.combined._iterator = None
        for watched in self.watched:
            if _keeps_workers(watched.loader):
                watched.loader._iterator = None

    def is_read(self) -> bool:
        """Whether a batch was handed out in the running pass."""
        return any(watched.is_read() for watched in self.watched)

    def fits(self, saved: Any) -> bool:
        """Whether `saved` was taken from as many loaders."""
        return isinstance(saved, dict) and len(saved["loaders"]) == len(self.watched)

    def unkept(self) -> list[Unkept]:
        """What of the loaders' parts had changed when it was last told, and cannot be kept."""
        return [one for watched in self.watched for one in watched.unkept()] + self._ahead.unkept()

    def put_rest(self, saved: Any) -> None:
        """What changes in the loaders from pass to pass, as it was when `position` was told."""
        if self.fits(saved):
            for watched, one in zip(self.watched, saved["loaders"], strict=True):
                watched.put_rest(one)

    def position(self, prefetched: int) -> Any:
        """Where training is in its loaders. `prefetched` batches were fetched and not trained: 0 or 1."""
        if not prefetched or self._earlier is None:
            self._ahead.drop()
            return self._position()
        loaders = [
            one if one is None else {**one, "rest": watched.rest()}
            for watched, one in zip(self.watched, self._earlier["loaders"], strict=True)
        ]
        return {**self._earlier, "loaders": loaders, "held": self._ahead.to_state()}

    def _position(self) -> Any:
        iterator = self.combined._iterator
        return {
            "index": getattr(iterator, "_idx", 0),
            "consumed": list(getattr(iterator, "_consumed", [])),
            "loaders": [watched.position() for watched in self.watched],
        }

    def begin(self, make_iterator: Any) -> None:
        """Called as the CombinedLoader's `__iter__`."""
        combined = self.combined
        real = combined._flattened
        combined._flattened = list(self.watched)
        try:
            make_iterator()
        finally:
            combined._flattened = real
        saved, self._to_resume = self._to_resume, None
        if saved is not None:
            combined._iterator._idx = saved["index"]
            if saved["consumed"]:
                combined._iterator._consumed = list(saved["consumed"])
        self._held = None if saved is None else batch_from_state(saved.get("held"))
        self._earlier = None
        self._ahead.drop()
        try:
            len(combined)
            self._unsized = False
        except (TypeError, NotImplementedError):
            self._unsized = True

    def before_fetch(self) -> None:
        """Lightning fetches one batch ahead where it does not know the length: remember the place before that."""
        if self._unsized:
            self._earlier = self._position()
            self._ahead.drop()

    def fetched(self, item: Any) -> Any:
        """What it has fetched: a batch, and its numbers. One that was kept takes the place of the same, made once more."""
        held, self._held = self._held, None
        if held is not None:
            item = (held, *item[1:])
        if self._unsized and not any(getattr(one.loader, "num_workers", 0) for one in self.watched):
            self._ahead.hold(item[0])  # what workers change stays with them
        return item


def _watching(kind: type) -> type:
    def begin(self: Any) -> Any:
        watch = self._backprop_watch
        watch.begin(lambda: kind.__iter__(self))  # type: ignore[attr-defined]
        return self

    def fetch(self: Any) -> Any:
        watch = self._backprop_watch
        watch.before_fetch()
        return watch.fetched(kind.__next__(self))  # type: ignore[attr-defined]

    parts = {"__iter__": begin, "__next__": fetch, "_backprop_original": kind, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), parts)


def _keeps_workers(loader: Any) -> bool:
    return (
        bool(getattr(loader, "persistent_workers", False)) and getattr(loader, "_iterator", None) is not None
    )


def _set_sampler_epoch(loader: Any, epoch: int) -> None:
    """What Lightning does at the start of an epoch, which for a resumed one is too late: workers ask at once."""
    inner = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    for sampler in {id(s): s for s in (getattr(loader, "sampler", None), inner)}.values():
        set_epoch = getattr(sampler, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(epoch)


@contextmanager
def _kept_workers_skip(loader: Any, skip: int) -> Iterator[None]:
    """Workers that are kept ask the sampler they were made with, which no new iterator replaces."""
    kept = getattr(loader, "_iterator", None)
    if kept is None or not skip:
        yield
        return
    sampler = kept._index_sampler
    kept._index_sampler = PassedOver(sampler, skip, BatchSampler)
    try:
        yield
    finally:
        kept._index_sampler = sampler
