"""Which passes over loaders train, where each stands, and how another process finds them again.

A pass is known by the looks of its loader and by its number among the passes with such a loader. Not every one trains:
people look at a batch first, measure a mean, and `tqdm.auto` begins each pass once for nothing. So a checkpoint says with
which number training began, and where every pass stands that is under way: several where a loop reads two loaders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from typing import Any

from torch import is_grad_enabled
from torch.utils.data import DataLoader

from backprop_core.ports import pass_position
from backprop_core.ports.pass_position import Draws, PassPosition
from backprop_core.ports.unmodified_loop import ResumePoint
from backprop_core.quick_dataclass import dataclass
from backprop_torch.dataloader_state import generators_of
from backprop_torch.held_batch import HeldBatch
from backprop_torch.loader_state import LoaderState
from backprop_torch.pass_workers import PassWorkers


@dataclass(slots=True, eq=False)
class Pass:
    """One pass over a loader that the script makes.

    Attributes:
        loader: gives what it reads from, as long as the script holds its iterator.
        key: a number of the loader's own.
        signature: what the loader looks like, to know it again in another process.
        number: passes over loaders of this look that the process began before it.
        before: what decided the pass when it began, see `pass_start`.
        length: batches, where known.
        asked: what decided it when its first batch was asked for: a sampler draws its seed only then, and a loop that
            reads two loaders has begun the other one meanwhile.
        iterator: what the script reads, as long as it holds it.
        yielded: batches that were fetched from it.
        newest: what the loader's own generators were before its newest batch was loaded, where one is fetched ahead.
        made: its newest batch, where one is fetched ahead.
        ahead: batches that are fetched before the script gets the one before them, see `accelerated.py`.
        over: it is exhausted.
        elsewhere: a thread other than the one that trains reads it, so nobody knows how much of it was used.
        cycle: batches after which the sampler of an endless pass begins anew, drawing from the generators; 0: it is not one.
        behind: batches before the present cycle; `asked` is what decided that.
        make: makes another iterator of the loader, as this one was made.
        workers: its workers.
    """

    loader: Callable[[], Any]
    key: int
    signature: str
    number: int
    before: PassPosition | None
    length: int | None
    iterator: Callable[[], Any]
    yielded: int = 0
    ahead: int = 0
    newest: Any = None
    made: HeldBatch = field(default_factory=HeldBatch)
    over: bool = False
    asked: Draws | None = None
    elsewhere: bool = False
    cycle: int = 0
    behind: int = 0
    make: Callable[[Any], Any] | None = None
    workers: PassWorkers | None = None

    def dropped(self, _: object = None) -> None:
        """The script has let go of its iterator: hold on to nothing."""
        self.before = self.asked = self.make = self.workers = None
        self.made.drop()
        self.loader = lambda: None

    @property
    def given(self) -> int:
        """Batches the script has got, of the present cycle where the pass is endless."""
        return max(0, self.yielded - self.behind - self.ahead)

    @property
    def is_used_up(self) -> bool:
        """Whether the script has got its last batch: one that is fetched ahead it has still to get."""
        return self.length is not None and self.yielded - self.ahead == self.length

    @property
    def is_at_last(self) -> bool:
        """Whether the script gets its last batch next."""
        return self.length is not None and self.yielded - self.ahead == self.length - 1

    @property
    def has_batches(self) -> bool:
        """Whether it may give more."""
        return not self.over and not self.is_used_up


@dataclass(slots=True)
class Resumption:
    """A pass of an earlier process that is to go on here.

    Attributes:
        saved: its place, as the checkpoint holds it.
        when_begun: called when it is begun; None for one that is read beside the one that decides.
        anew: nothing of it was read: only the state is to be that of the boundary when it begins.
        begun: a pass was begun as this one. Another may still be, until a step is taken.
    """

    saved: Mapping[str, Any]
    when_begun: Callable[[], object] | None
    anew: bool = False
    begun: bool = False

    @property
    def position(self) -> PassPosition:
        """Where it stood."""
        return pass_position.watched_from_state(self.saved)

    @property
    def rest(self) -> Any:
        """What its loader's parts held at the boundary, or None."""
        return self.saved.get("rest")

    def put_rest(self, loader: LoaderState) -> None:
        """What changes in the loader from pass to pass, as it was at the boundary."""
        if self.rest is not None and loader.mismatch(self.rest) is None:
            loader.restore(self.rest)

    def batches(self, loader: Any) -> int:
        """Batches of `loader` that are over."""
        return self.position.given or 0

    def fits(self, signature: str, number: int, *, any_number: bool = False) -> bool:
        """Whether the pass with this number is that one; `any_number` where it is known to train."""
        since = number - int(self.saved.get("first", 0))
        if self.saved.get("signature") != signature or (since < 0 and not any_number):
            return False
        return max(since, 0) % int(self.saved.get("of", 1)) == int(self.saved.get("place", 0))


@dataclass(slots=True)
class Passes:
    """All passes of a process.

    Attributes:
        resumptions: those that are still to go on.
    """

    resumptions: list[Resumption] = field(default_factory=list)
    _begun: Counter[str] = field(default_factory=Counter)
    _first: dict[str, int] = field(default_factory=dict)
    _asked: dict[int, Pass] = field(default_factory=dict)
    _in_use: dict[int, Pass] = field(default_factory=dict)

    def next_number(self, signature: str) -> int:
        """The number of a pass that begins now."""
        self._begun[signature] += 1
        return self._begun[signature] - 1

    def resumption(
        self, signature: str, number: int, *, late: bool, fresh: bool = False
    ) -> Resumption | None:
        """Which pass of an earlier process the one goes on with that begins now, or is under way already."""
        return next(
            (
                one
                for one in self.resumptions
                if not ((late or fresh) and one.begun) and one.fits(signature, number, any_number=late)
            ),
            None,
        )

    def asked(self, current: Pass) -> None:
        """A batch of it is asked for, with gradients on."""
        self._asked[current.key] = current

    def step_taken(self) -> None:
        """What was read since the last step, and is not exhausted or dropped, is what trains. One whose end was asked for
        ahead of its last batch is held until the script has got that.
        """
        if self.resumptions:
            self.resumptions = [one for one in self.resumptions if not (one.begun or one.anew)]
        if not self._asked:
            return
        for key, one in self._asked.items():
            if (one.ahead or not one.over) and one.iterator() is not None:
                self._in_use[key] = one
                self._first.setdefault(one.signature, one.number)
        if len(self._in_use) > 1:
            self._in_use = {
                key: one for key, one in self._in_use.items() if key in self._asked or _is_read(one)
            }
        self._asked.clear()

    def trains(self, current: Pass) -> bool:
        """Whether it is one of those that train, or another pass over the loader of one."""
        return current.key in self._in_use

    def in_evaluation(self) -> bool:
        """Whether gradients are off now, and batches that train were asked for with them on."""
        return bool(self._in_use) and not is_grad_enabled()

    def another_training(self) -> None:
        """What trained until now is over."""
        self._in_use.clear()

    def place(self, at: Pass | None, trained: Pass | None, alive: Iterable[Pass]) -> dict[str, Any]:
        """Where the passes stand at a boundary.

        Args:
            at: the one that is asked next; None: its turn is over.
            trained: the one that was asked before.
            alive: all that the script still holds.
        """
        newest: dict[int, Pass] = {}
        for one in sorted(alive, key=lambda one: one.number):
            newest[one.key] = one
        reading = [newest[key] for key in self._in_use if key in newest and not newest[key].over]
        if at is None:
            looks = "" if trained is None else trained.signature
            reading = [one for one in reading if trained is None or one.key != trained.key]
            return {
                "kind": "between",
                "signature": looks,
                "first": self._first.get(looks, 0),
                "rest": _rest_of(trained),
                "beside": self._places(reading),
            }
        reading = sorted([at, *(one for one in reading if one.key != at.key)], key=lambda one: one.number)
        places = self._places(reading)
        return {"kind": "loader", **places.pop(reading.index(at)), "beside": places}

    def _places(self, reading: list[Pass]) -> list[dict[str, Any]]:
        of: Counter[str] = Counter(one.signature for one in reading)
        seen: Counter[str] = Counter()
        places = []
        for one in reading:
            places.append(
                {
                    **pass_position.watched_to_state(_position_of(one)),
                    "signature": one.signature,
                    "first": self._first.get(one.signature, 0),
                    "place": seen[one.signature],
                    "of": of[one.signature],
                }
            )
            seen[one.signature] += 1
        return places


def _position_of(one: Pass) -> PassPosition:
    begun = one.before or PassPosition(Draws(None))
    held = one.made.to_state() if one.ahead == 1 and one.yielded else None
    workers = None if one.workers is None else one.workers.to_state(ahead=one.ahead)
    return replace(
        begun,
        first=one.asked,
        given=one.given,
        newest=one.newest,
        held=held,
        rest=_rest_of(one),
        workers=workers,
    )


def _rest_of(one: Pass | None) -> Any:
    """What changes in a pass's loader, as it is now."""
    loader = None if one is None else one.loader()
    return None if loader is None else generators_of(loader).capture()


def _is_read(one: Pass) -> bool:
    return not one.over and one.iterator() is not None


def signature_of(loader: DataLoader[Any]) -> str:
    """What a loader looks like."""
    try:
        size = len(loader.dataset)  # type: ignore[arg-type]
    except TypeError:
        size = -1
    looks = f"{type(loader.dataset).__name__}:{size}:{loader.batch_size}:{type(loader.sampler).__name__}"
    batches = loader.batch_sampler
    if loader.batch_size is not None or batches is None:
        return looks
    # Of one's own, or accelerate's: the sampler is in it.
    within = type(getattr(batches, "sampler", None)).__name__
    return f"{looks}:{type(batches).__name__}:{getattr(batches, 'batch_size', None)}:{within}"


def place_of(position: Any) -> tuple[ResumePoint, int]:
    """What a saved position is, and how many batches of an interrupted pass are over in it."""
    kinds = {"optimizer": ResumePoint.STEP, "loader": ResumePoint.PASS, "between": ResumePoint.NEXT_PASS}
    if not isinstance(position, Mapping):
        return ResumePoint.UNKNOWN, 0
    batches = position.get("yielded", 0)
    return kinds.get(str(position.get("kind")), ResumePoint.UNKNOWN), batches if isinstance(
        batches, int
    ) else 0
