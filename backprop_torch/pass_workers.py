"""The workers of one pass over a loader: told to a checkpoint, and brought back; what does not come back is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from torch.utils.data import IterableDataset

from backprop_core.ports.pass_position import PassPosition
from backprop_torch.worker_states import (
    SavedWorkers,
    WorkerNotes,
    WorkersGoOn,
    can_go_on,
    notes_of,
    saved_workers,
    set_before_pass,
)

_WORKER_CAVEAT = (
    "The order of the batches is exact. Random numbers drawn inside this loader's workers (augmentation) are not, on a "
    "resume in the middle of an epoch ('backprop docs pytorch')."
)
STAYING_CAVEAT = (
    "The order of the batches is exact. Random numbers drawn inside workers that stay (persistent_workers=True) are not, "
    "because their generators are as old as the process ('backprop docs pytorch')."
)
_ANY_ORDER_CAVEAT = (
    "With in_order=False batches come as the workers finish them: a resume in the middle of an epoch may repeat a few "
    "batches and leave out others ('backprop docs pytorch')."
)


def _weakly(loader: Any) -> Callable[[], Any]:
    """It may hold its iterator, by which a watch knows these workers: nothing would ever be let go."""
    try:
        return ref(loader)
    except TypeError:  # it cannot be referred to weakly
        return lambda: loader


class PassWorkers:
    """The workers of one pass over a loader.

    Args:
        replay: what was trained is loaded again.
    """

    def __init__(self, loader: Any, *, replay: bool = False) -> None:
        self._loader, self._replay = _weakly(loader), replay
        self._indexed = loader.num_workers > 0 and not isinstance(loader.dataset, IterableDataset)
        self._iterator: Callable[[], Any] = lambda: None
        self._notes: WorkerNotes | None = None
        self._number = 0
        self._start: SavedWorkers | None = None
        self._come_back: Callable[[], bool] = lambda: True
        self._caveat = ""

    @property
    def come_back(self) -> bool:
        """Whether the generators of the workers are where they were, as far as a resume has to bring them there."""
        return self._come_back()

    @property
    def caveat(self) -> str:
        """What a resume could not bring back of them, in a sentence for the user; empty where it brought all."""
        return "" if self.come_back else self._caveat

    def resumed(
        self, start: PassPosition | None, skip: int, length: int | None, *, later: bool = False
    ) -> WorkersGoOn:
        """A pass goes on behind its first batches. What it finds running is as it was when it began.

        Args:
            start: of the pass in an earlier process; None: it begins here.
            length: batches of the whole pass, where that is known.
            later: it goes on when it is first asked. Whether the workers come back then is foreseen.

        Returns:
            What is to be called before the first batch is dealt.
        """
        loader = self._loader()
        saved = None if start is None else saved_workers(start.workers, loader.num_workers)
        go_on = WorkersGoOn(saved, skip)
        stay = bool(loader.persistent_workers)
        found = start is not None and start.workers_kept and loader.num_workers > 0
        self._caveat = _WORKER_CAVEAT
        if start is None or not loader.num_workers:
            self._come_back = lambda: True
        elif skip and skip != length and not getattr(loader, "in_order", True):
            self._come_back, self._caveat = (lambda: False), _ANY_ORDER_CAVEAT
        elif self._replay or not self._indexed or not skip:
            known = not found or (self._indexed and set_before_pass(loader, saved))
            self._come_back, self._caveat = (lambda: known), STAYING_CAVEAT
        elif skip == length and not stay:
            self._come_back = lambda: True
        else:
            foreseen = later and go_on.is_known and can_go_on(loader)
            self._come_back = lambda: go_on.done or foreseen
        return go_on

    def follow(self, iterator: Any) -> None:
        """`iterator` goes over the loader."""
        self._notes = notes_of(iterator)
        if self._notes is None:
            return
        self._iterator, self._number = ref(iterator), self._notes.passes
        if self._replay and self._notes.passes:
            self._start = self._notes.saved(0, iterator._base_seed)

    def hold(self) -> None:
        """The iterator has given its last batch: it is held until another pass is followed, for `to_state`."""
        iterator = self._iterator()
        self._iterator = lambda: iterator

    def to_state(self, *, midway: bool = False, ahead: int = 0) -> Any:
        """Them behind the last batch that was given, for a checkpoint; None where that is not known.

        Args:
            midway: before that batch instead.
            ahead: so many of the batches were given to somebody who has not given them on.
        """
        iterator, notes = self._iterator(), self._notes
        if iterator is None or notes is None or notes.passes != self._number:
            return None
        if self._replay:
            saved = self._start
        else:
            seed = iterator._base_seed if iterator._persistent_workers else None
            given = notes.behind + iterator._rcvd_idx
            saved = (
                notes.saved(max(0, given - midway - ahead), seed) if given == iterator._num_yielded else None
            )
        return None if saved is None else saved.to_state()
