"""What is known of one counted loop: while it runs, when it has ended, and as a checkpoint remembers it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import Any

from backprop_core.loop.seen_objects import SeenObjects
from backprop_core.quick_dataclass import dataclass
from backprop_core.script_state.rewrite import Site


@dataclass(slots=True)
class EndedLoop:
    """A loop that ended inside the running iteration of the loop around it.

    Attributes:
        by_itself: it came to its end, so its `else` was run; otherwise it was left.
        effect: the state just behind it: all of it where more training may follow in the same iteration, else the small
            variables; None where that was not worth taking.
        again: an evaluation: what it gives is used by the code behind it, so it runs again on the way back.
    """

    key: str
    by_itself: bool = False
    effect: Any = None
    again: bool = False


@dataclass(slots=True)
class SavedLoop:
    """A running loop as a checkpoint remembers it.

    Attributes:
        index: iterations that are over.
        opening: what its iterable needs to be begun again.
        entry: small state at the start of the iteration that was running; None for the innermost.
        steps_before: training steps that had been taken when it began; None where a checkpoint does not say.
        counts: see `RunningLoop`.
    """

    key: str
    index: int
    ended: list[EndedLoop] = field(default_factory=list)
    opening: Any = None
    entry: Any = None
    steps_before: int | None = None
    counts: tuple[int, int] | None = None


@dataclass(slots=True, eq=False)
class RunningLoop:
    """A loop that is running.

    Attributes:
        index: iterations begun.
        length: how many there will be, where it is known.
        ended: loops that have ended inside the running iteration.
        over_before: those that had when the checkpoint was made and have not come by yet.
        readings: the loaders that it goes over, in the order in which they were begun.
        iterators: beside each reading the iterator that is read, where the script has made it: `batches = iter(loader)`.
        asked: the generators and other iterators that it asks.
        entry: small state as it was when the running iteration began; None where it was not worth taking.
        on_the_way: it was running around the innermost one when the checkpoint was made; stepped_over: its interrupted
            iteration has begun again.
        late: its items from the first one on: what is to be restored is made by its first iteration, which runs once more.
        stepped_inside: a loop inside has counted a step in the running iteration.
        since: when the running iteration began.
        began: when the loop began.
        there: what the script's variables held then; None where it was not worth looking.
        at_entry: the same at the start of the running iteration.
        updates_before, updates_at_entry: optimizer steps that this process had seen then.
        steps_before: training steps that had been taken when it began in all attempts; None where that is not known.
        counts: the first number and the distance where it only counts, as in `range(start, epochs)`.
    """

    site: Site
    index: int = 0
    length: int | None = None
    ended: list[EndedLoop] = field(default_factory=list)
    over_before: list[EndedLoop] = field(default_factory=list)
    random: Any = field(default=None, repr=False)
    readings: list[Any] = field(default_factory=list, repr=False)
    iterators: list[Any] = field(default_factory=list, repr=False)
    asked: list[Any] = field(default_factory=list, repr=False)
    saved: SavedLoop | None = None
    innermost: bool = False
    on_the_way: bool = False
    stepped_over: bool = False
    late: Iterator[Any] | None = field(default=None, repr=False)
    entry: Any = field(default=None, repr=False)
    stepped_inside: bool = False
    since: float = 0.0
    began: float = 0.0
    there: SeenObjects | None = field(default=None, repr=False)
    at_entry: SeenObjects | None = field(default=None, repr=False)
    updates_before: int = 0
    updates_at_entry: int = 0
    steps_before: int | None = None
    counts: tuple[int, int] | None = None


def epoch_and_batch(running: Sequence[RunningLoop]) -> tuple[int, int]:
    """What people are told of the place: the outermost loop's running iteration, and how far the innermost is in it."""
    if not running:
        return 0, 0
    if len(running) > 1:
        return max(0, running[0].index - 1), running[-1].index
    only = running[0]  # the steps may be those of a loop inside, which is over or has not begun
    return (only.index, 0) if only.stepped_inside else (0, only.index)


@dataclass(frozen=True, slots=True)
class SavedStep:
    """An optimizer step that a checkpoint was made inside.

    Attributes:
        depth: loops that were running around it.
        number: steps of its kind before it, in the same iteration and behind the same loop.
    """

    depth: int
    number: int
