"""The loaders of a CombinedLoader, read so that their place can be found again in another process, batch for batch.

Where it does not know a loader's length, Lightning fetches one batch ahead. That one is kept with the place: making it again
would find the script's variables as they were after it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from backprop_core.ports.loaders import RandomnessKeeper
from backprop_core.script_state.unkept import Unkept
from backprop_lightning.watched_loader import Watched, keeps_workers
from backprop_torch.held_batch import HeldBatch, batch_from_state


class CombinedLoaderChange:
    """A CombinedLoader becomes one that tells this of its passes and fetches; everybody else sees the real one."""

    combined: Any

    def install(self) -> None:
        """It begins."""
        kind = type(self.combined)
        self.combined._backprop_watch = self
        if not hasattr(kind, "_backprop_original"):
            self.combined.__class__ = watching(kind)

    def uninstall(self) -> None:
        """The CombinedLoader is what it was, unless another has taken this one's place."""
        if self.combined._backprop_watch is self:
            self.combined.__class__ = getattr(type(self.combined), "_backprop_original", type(self.combined))
            self.combined._backprop_watch = None


class CombinedLoaderWatch(CombinedLoaderChange):
    """Watches all loaders of one CombinedLoader from its next iterator on.

    Args:
        mends: whether an error of a loader says that its workers are gone and it is to have new ones.
        say: tells the user, once, what of a pass does not come back.
    """

    def __init__(
        self,
        combined: Any,
        randomness: RandomnessKeeper,
        mends: Callable[[Exception], bool],
        say: Callable[[str], None],
    ) -> None:
        self.combined = combined
        self.watched = [Watched(loader, randomness, mends, say) for loader in combined.flattened]
        self._earlier: Any = None
        self._ahead = HeldBatch()
        self._held: Any = None
        self._to_resume: Any = None
        self._unsized = False

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
            if keeps_workers(watched.loader):
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
        with handing_out(combined, self.watched):
            make_iterator()
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


@contextmanager
def handing_out(combined: Any, loaders: Sequence[Any]) -> Iterator[None]:
    """Inside, an iterator of the CombinedLoader is made of these."""
    real = combined._flattened
    combined._flattened = list(loaders)
    try:
        yield
    finally:
        combined._flattened = real


def watching(kind: type) -> type:
    """A kind of CombinedLoader whose `_backprop_watch` is told when a pass begins and a batch is fetched."""

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


def _set_sampler_epoch(loader: Any, epoch: int) -> None:
    """What Lightning does at the start of an epoch, which for a resumed one is too late: workers ask at once."""
    inner = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    for sampler in {id(s): s for s in (getattr(loader, "sampler", None), inner)}.values():
        set_epoch = getattr(sampler, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(epoch)
