"""The random generators of a loader's workers, kept in a checkpoint as they were behind the last batch that was trained.

Torch deals batches to its workers in turn. So it is known which worker made which batch, and a resume deals the next one to
the worker that would have made it. `worker_generators.py` is what runs in the workers.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle, islice
from sys import _getframe
from types import FrameType
from typing import Any
from weakref import ref

import torch
from torch.utils.data import IterableDataset, MapDataPipe
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from backprop_core.quick_dataclass import dataclass
from backprop_core.script_state.unkept import note_in_workers
from backprop_torch.delegating_loader import reads_another
from backprop_torch.worker_generators import NotingInit, WorkerMemory, state_bytes
from backprop_torch.worker_parts import packed_changes, unpacked

_FORK, _OTHERS = "fork", ("spawn", "forkserver")
_TORCHS = ("_worker_queue_idx_cycle", "_try_put_index")
"""What of torch's iterator deals batches to workers: which comes next, and what asks for a batch."""
_BEHIND = 3
"""How many of a worker's batches are remembered beside those that it may be ahead."""

Row = list[bytes]
"""Each worker's generators; empty: as they were when it began."""


@dataclass(frozen=True, slots=True)
class SavedWorkers:
    """The workers of a pass, in a checkpoint.

    Attributes:
        batch: the batch of the pass that comes next.
        turn: the worker that makes it.
        seed: the loader's base seed, where workers stay that were made before the pass; None: the pass draws it.
        row: their generators.
    """

    batch: int
    turn: int
    seed: int | None
    row: Row

    def to_state(self) -> dict[str, Any]:
        """As values that a checkpoint can hold."""
        states = sorted({one for one in self.row if one})
        state: dict[str, Any] = {"batch": self.batch, "turn": self.turn, "seed": self.seed}
        state["drawn"] = [states.index(one) if one else -1 for one in self.row]
        if states:
            length = state_bytes()
            generators = b"".join(one[:length] for one in states)
            state["states"] = torch.frombuffer(bytearray(generators), dtype=torch.uint8).reshape(
                len(states), -1
            )
            if any(len(one) > length for one in states):
                state["changes"] = [unpacked(one[length:]) for one in states]
        return state


def saved_workers(state: Any, workers: int) -> SavedWorkers | None:
    """What `to_state` has made, if it is of as many workers and of generators of this torch's; None if not."""
    try:
        states, row = state.get("states"), []
        changes = state.get("changes")
        for index in state["drawn"]:
            packed = b"" if index < 0 else bytes(states[index].tolist())
            if index >= 0 and len(packed) != state_bytes():
                return None
            row.append(packed if index < 0 or changes is None else packed + packed_changes(changes[index]))
        seed = state["seed"]
        found = SavedWorkers(
            int(state["batch"]), int(state["turn"]), None if seed is None else int(seed), row
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError):
        return None
    return found if len(row) == workers and 0 <= found.turn < workers and found.batch >= 0 else None


class WorkerNotes:
    """What the process that trains knows of the workers of one of torch's iterators.

    Attributes:
        passes: that began with these workers, beside the first.
        behind: batches of the present pass that are over and that these workers did not make.
    """

    def __init__(self, init: NotingInit, workers: int) -> None:
        self._memory, self._workers = init.memory, workers
        self._turn = self.behind = self.passes = 0
        self._before = [0] * workers
        self._first: Row = [b""] * workers

    def begin_at(self, saved: SavedWorkers) -> None:
        """The pass begins behind its first batches. Called before any is asked for."""
        self.behind, self._turn = saved.batch, saved.turn
        self.set_generators(saved.row)

    def set_generators(self, row: Row) -> None:
        """Before their next batch the workers set their generators. None of them has made one yet."""
        self._first = list(row)
        for worker, packed in enumerate(row):
            if packed:
                self._memory.order(worker, packed)
            else:
                self._memory.take_back(worker)

    def pass_over(self, sent: int) -> None:
        """Another pass begins; the one before has asked for so many batches."""
        self._before = [self._made(worker, self.behind + sent) for worker in range(self._workers)]
        self.behind = self._turn = 0
        self.passes += 1

    def _made(self, worker: int, batch: int) -> int:
        """How many batches of its life a worker has made when it has made its own before `batch`."""
        first = (worker - self._turn) % self._workers
        return self._before[worker] + max(
            0, (batch - self.behind - first + self._workers - 1) // self._workers
        )

    def saved(self, batch: int, seed: int | None) -> SavedWorkers | None:
        """The workers when all batches of the pass before this one are trained; None where that is not known."""
        row: Row = []
        note_in_workers(one for worker in range(self._workers) for one in self._memory.named(worker))
        for worker in range(self._workers):
            made = self._made(worker, batch)
            noted = self._memory.noted(worker, made) if made else self._first[worker]
            if noted is None:
                return None
            row.append(noted)
        return SavedWorkers(batch, (self._turn + batch - self.behind) % self._workers, seed, row)


class _Reset:
    """In place of the `_reset` of an iterator whose workers stay: a pass begins."""

    def __init__(self, iterator: Any, notes: WorkerNotes) -> None:
        self._iterator, self.notes = ref(iterator), notes

    def __call__(self, loader: Any, *args: Any, **kwargs: Any) -> None:
        iterator = self._iterator()
        assert iterator is not None  # whose method this is
        self.notes.pass_over(iterator._send_idx)
        type(iterator)._reset(iterator, loader, *args, **kwargs)


def notes_of(iterator: Any) -> WorkerNotes | None:
    """What is known of the workers of torch's `iterator`; None where they note nothing."""
    if not issubclass(type(iterator), _MultiProcessingDataLoaderIter):
        return None
    init = vars(iterator).get("_worker_init_fn")
    if type(init) is not NotingInit:
        return None
    known = vars(iterator).get("_backprop_notes")
    if known is None:
        known = iterator._backprop_notes = WorkerNotes(init, iterator._num_workers)
        if iterator._persistent_workers:
            iterator._reset = _Reset(iterator, known)
    return known  # type: ignore[no-any-return]


@contextmanager
def workers_noted(loader: Any, seed: int | None = None) -> Iterator[None]:
    """Inside, the workers that `loader` makes note their generators. What it holds is not to be looked at meanwhile.

    Args:
        seed: what they are seeded with in place of what the loader draws, if they are made without a pass.
    """
    own = vars(loader).get("worker_init_fn")
    mine = None if type(own) is NotingInit else _noting_init(loader, own, seed)
    if mine is None:
        yield
        return
    loader.worker_init_fn = mine
    try:
        yield
    finally:
        if vars(loader).get("worker_init_fn") is mine:
            loader.worker_init_fn = own
        notes_of(getattr(loader, "_iterator", None))


def made_noting(make: Callable[[Any], Any], loader: Any) -> Any:
    """What `make` makes of `loader`, whose workers note their generators if it makes any."""
    with workers_noted(loader):
        return make(loader)


def _noting_init(loader: Any, own: Any, seed: int | None) -> NotingInit | None:
    if not _are_dealt_in_turn(loader):
        return None
    try:
        asked = loader.multiprocessing_context or multiprocessing
        method = asked.get_start_method()
        if method not in (_FORK, *_OTHERS):
            return None
        slots = int(loader.prefetch_factor) + _BEHIND
        context = None if method == _FORK else asked
        return NotingInit(own, WorkerMemory(loader.num_workers, slots, context), seed)
    except Exception:  # the loader works without us
        return None


def _are_dealt_in_turn(loader: Any) -> bool:
    """Whether it is a loader whose workers get batches of a data set by index, one after the other."""
    return (
        getattr(loader, "num_workers", 0) > 0
        and "worker_init_fn" in vars(loader)
        and getattr(loader, "in_order", True) is True
        and not isinstance(loader.dataset, IterableDataset | MapDataPipe)
        and not callable(getattr(loader, "load_state_dict", None))
        and not reads_another(loader)
    )


def can_go_on(loader: Any) -> bool:
    """Whether the workers that `loader` makes note their generators, and can be brought to where others were."""
    dealing = _MultiProcessingDataLoaderIter._reset.__code__.co_names
    return _noting_init(loader, None, None) is not None and all(name in dealing for name in _TORCHS)


def set_before_pass(loader: Any, saved: SavedWorkers | None) -> bool:
    """The workers that stay go on where they were when the pass began that begins again now. Whether they do."""
    iterator: Any = getattr(loader, "_iterator", None)
    notes = notes_of(iterator)
    if saved is None or saved.batch or notes is None or iterator._base_seed != saved.seed:
        return False
    notes.set_generators(saved.row)
    return True


def workers_between_passes(loader: Any, *, left_early: bool = False) -> Any:
    """The workers that stay, as a checkpoint holds them, when all that they were asked for is given; None: it is not.

    Args:
        left_early: the pass is over, even if not all is given. What they were asked for they make before the next one
            begins; None: it is not made yet.
    """
    iterator: Any = getattr(loader, "_iterator", None)
    notes = notes_of(iterator)
    if notes is None or (iterator._rcvd_idx != iterator._send_idx and not left_early):
        return None
    saved = notes.saved(notes.behind + iterator._send_idx, iterator._base_seed)
    return None if saved is None else replace(saved, batch=0, turn=0).to_state()


class WorkersGoOn:
    """Has the workers of a resumed pass go on where they were.

    Called when the sampler has passed over what is trained: an iterator of torch's asks it for its first batch then, and has
    not dealt it to a worker yet.

    Attributes:
        is_known: where they were is known.
        done: they do.
    """

    def __init__(self, saved: SavedWorkers | None, skip: int) -> None:
        self._saved = saved if saved is not None and saved.batch == skip else None
        self._skip = skip
        self.is_known = self._saved is not None
        self.done = False

    def __call__(self) -> None:
        iterator = _asking(_getframe(1))
        notes = notes_of(iterator)
        if notes is None:
            return
        turns = range(iterator._num_workers)
        if self._saved is None or not hasattr(iterator, "_worker_queue_idx_cycle"):
            notes.begin_at(SavedWorkers(self._skip, 0, None, [b"" for _ in turns]))
            return
        iterator._worker_queue_idx_cycle = islice(cycle(turns), self._saved.turn, None)
        notes.begin_at(self._saved)
        self.done = True


def _asking(frame: FrameType | None) -> Any:
    """The iterator of torch's that asks its sampler."""
    for _ in range(8):
        if frame is None:
            return None
        if frame.f_code.co_name == "_try_put_index":
            return frame.f_locals.get("self")
        frame = frame.f_back
    return None
