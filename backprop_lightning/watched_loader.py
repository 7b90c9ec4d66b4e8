"""One loader of a CombinedLoader, read so that its place can be found again in another process, batch for batch.

Lightning makes an epoch's iterator, lets hooks run, and asks for the first batch later; a sampler draws its seed when it is
first asked, and the workers' seed is drawn when the iterator is made. So two states of the random generators belong to a
pass: from before the iterator, and from before its first batch. To come back, both are set in their turn, the batches
already trained are skipped by index, and whoever asked for this sets the generators to where they were at the boundary.
The loader's workers have generators of their own, which go on where they were behind the last batch that was handed out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from backprop_core.loop.index_position import pass_over
from backprop_core.ports import pass_position
from backprop_core.ports.loaders import RandomnessKeeper
from backprop_core.ports.pass_position import Draws, PassPosition
from backprop_core.quick_dataclass import dataclass
from backprop_core.script_state.unkept import Unkept
from backprop_torch.dataloader_state import generators_of
from backprop_torch.loader_facts import loader_length
from backprop_torch.loader_skip import iterator_behind
from backprop_torch.pass_workers import PassWorkers
from backprop_torch.stateful_reading import STATEFUL_CAVEAT
from backprop_torch.staying_workers import restore_workers
from backprop_torch.worker_states import made_noting


@dataclass(slots=True)
class LoaderPass:
    """One pass over one loader.

    Attributes:
        before: the random generators before the iterator was made.
        first: the random generators before the first batch was asked for; None if none was.
        kept_workers: the workers lived on from the pass before.
        yielded: batches handed out.
        workers: their generators, where the pass goes on with others than it began with.
        last: their generators when it was over; None: it is not, or they are not known.
    """

    before: Draws
    kept_workers: bool
    first: Draws | None = None
    yielded: int = 0
    workers: Any = None
    last: Any = None


class Watched:
    """One loader as the CombinedLoader's iterator sees it: the same batches, and each pass noted.

    Args:
        mends, say: see `CombinedLoaderWatch`.
    """

    def __init__(
        self,
        loader: Any,
        randomness: RandomnessKeeper,
        mends: Callable[[Exception], bool],
        say: Callable[[str], None],
    ) -> None:
        self.loader = loader
        self._mends = mends
        self._say = say
        self._randomness = randomness
        self._generators = generators_of(loader)
        self._pass: LoaderPass | None = None
        self._stateful = callable(getattr(loader, "state_dict", None)) and callable(
            getattr(loader, "load_state_dict", None)
        )
        stock = isinstance(loader, DataLoader) and not self._stateful
        self._workers = PassWorkers(loader) if stock else None
        self.resume_from: Any = None

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        if self.resume_from is not None:
            saved, self.resume_from = self.resume_from, None
            with self._generators.resuming():
                return self._resumed(saved)
        self._generators.let_go()
        note = LoaderPass(self._draws(), keeps_workers(self.loader))
        self._pass = note
        return self._counted(self._new_iterator(), note)

    def _new_iterator(self) -> Iterator[Any]:
        if self._workers is None:
            return iter(self.loader)
        iterator: Iterator[Any] = made_noting(iter, self.loader)
        self._workers.follow(iterator)
        return iterator

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
            workers=self._workers_now() if note.last is None else note.last,
        )
        return pass_position.lightning_to_state(position)

    def _workers_now(self) -> Any:
        return None if self._workers is None else self._workers.to_state()

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
                note.last = self._workers_now()
                return
            except (RuntimeError, OSError, EOFError) as error:
                if not self._can_be_mended() or note.yielded == mended_at or not self._mends(error):
                    raise
                batches, mended_at = self._with_new_workers(note), note.yielded
                continue
            note.yielded += 1
            yield batch

    def _can_be_mended(self) -> bool:
        return self._workers is not None

    def _with_new_workers(self, note: LoaderPass) -> Iterator[Any]:
        """The batches behind those handed out, from workers that live; the random generators stay as they are."""
        now = self._draws()
        again = replace(note, workers=self._workers_now())
        self.loader._iterator = None
        self._make_kept(again)
        self._set_draws(note.before)
        batches = self._behind(again)
        self._set_draws(now)
        return batches

    def _draws(self) -> Draws:
        return Draws(self._randomness.randomness(), self._generators.capture())

    def _set_draws(self, saved: Draws) -> None:
        self._randomness.set_randomness(saved.everybodys)
        self._generators.restore(saved.own)

    def _resumed(self, saved: Any) -> Iterator[Any]:
        position = pass_position.lightning_from_state(saved)
        note = LoaderPass(
            position.begun, position.workers_kept, position.first, position.given or 0, position.workers
        )
        self._pass = note
        self._make_kept(note)
        if self._stateful and position.state is not None:
            self.loader.load_state_dict(position.state)
        self._set_draws(position.begun)
        if self._stateful:
            if getattr(self.loader, "num_workers", 0) and (note.yielded or note.kept_workers):
                self._say(STATEFUL_CAVEAT)
            return self._counted(iter(self.loader), note)
        return self._counted(self._behind(note), note)

    def _make_kept(self, note: LoaderPass) -> None:
        """Make the workers that the pass found running, so that its iterator only resets them, as it did then."""
        if self._workers is not None:
            restore_workers(self.loader, _start_of(note))
        elif note.kept_workers:
            iter(self.loader)

    def _behind(self, note: LoaderPass) -> Iterator[Any]:
        loader, skip, workers = self.loader, note.yielded, self._workers
        if workers is None:
            iterator: Iterator[Any] = iter(loader)
            if note.first is not None:
                self._set_draws(note.first)
            next(islice(iterator, skip - 1, skip), None) if skip else None
            return iterator
        go_on = workers.resumed(_start_of(note), skip, loader_length(loader))
        indexed = not isinstance(loader.dataset, IterableDataset)
        if indexed and loader.num_workers > 0:
            iterator = iterator_behind(loader, skip, workers=go_on)
        else:
            iterator = made_noting(iter, loader)
            if note.first is not None:
                self._set_draws(note.first)
            if indexed and skip and hasattr(iterator, "_sampler_iter"):
                pass_over(iterator._sampler_iter, skip, BatchSampler)
                iterator._num_yielded = skip  # type: ignore[attr-defined]
            elif skip:
                next(islice(iterator, skip - 1, skip), None)
        workers.follow(iterator)
        if workers.caveat:
            self._say(workers.caveat)
        return iterator


def _start_of(note: LoaderPass) -> PassPosition:
    return PassPosition(note.before, workers_kept=note.kept_workers, workers=note.workers)


def keeps_workers(loader: Any) -> bool:
    """Whether its workers run, and stay for the passes to come."""
    return (
        bool(getattr(loader, "persistent_workers", False)) and getattr(loader, "_iterator", None) is not None
    )
