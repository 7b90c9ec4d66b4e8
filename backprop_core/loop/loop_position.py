"""Where a training is inside its own loops, and how a new process finds back to that place.

Every `box.epochs`, `box.batches` and `box.steps` is a frame: its kind, its ordinal among the loops begun since its parent
moved on, and how many items it has given. A checkpoint stores the frames from the outermost in. A new process runs the same
code, so the same loops begin in the same order: one that was over yields nothing, the one that was interrupted starts at
its index, and from then on everything is as in the first process.

A boundary lies between two iterations of one frame. Frames below it are in the middle of an iteration, which will be entered
again. Frames above it belong to generators that were left waiting (a loader that is read with `next` inside box.steps, the
second one of a zip): what they gave has been used. Pure: no clock, no framework.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Self

from backprop_core.quick_dataclass import dataclass


@dataclass(slots=True, eq=False)
class Frame:
    """One loop that is running; the outermost frame stands for the box itself.

    Attributes:
        kind: `epochs`, `batches`, `steps`, or `box`.
        ordinal: how many loops ended in the parent's iteration before this one began.
        index: items given so far, the one that is being worked on included.
        ended: loops that have ended inside the present iteration.
        over_before: of those, how many were over already when the checkpoint was made.
        opening: what the loop needs to be begun again (a loader's position), kept by whoever opened it.
        follows: it is read in step with the loop around it, whose boundaries are enough.
        counts: its iterations are the steps of the run.
        spent: it has given all that it has, and the code behind it is to come.
        batch_size: samples in each of its items, where it is a loop over data that says so.
        length: how many items it gives, where that is known.
    """

    kind: str
    ordinal: int
    index: int = 0
    ended: int = 0
    over_before: int = 0
    opening: Any = None
    follows: bool = False
    counts: bool = False
    spent: bool = False
    batch_size: int | None = None
    length: int | None = None


@dataclass(frozen=True, slots=True)
class SavedFrame:
    """A frame as a checkpoint remembers it.

    Attributes:
        index: iterations that are over.
        opening: whatever was stored to begin that loop again.
        waiting: it was above the boundary's own frame.
        midway: it was below it, in the middle of an iteration that is to be entered again.
        again: all its iterations are over. The last is entered again, so that the code behind the loop finds what a loop
            leaves, and then everything is set to what it was.
        batch_size, length: as the frame's were.
    """

    kind: str
    ordinal: int
    index: int
    ended: int = 0
    opening: Any = None
    waiting: bool = False
    midway: bool = False
    again: bool = False
    batch_size: int | None = None
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """How a loop that begins now has to begin.

    Attributes:
        frame: the new frame.
        over: the loop had ended when the checkpoint was made: yield nothing.
        saved: where to start, when this loop was running at that time.
        arrived: with this loop, begun or left out, everything is as when the checkpoint was made.
    """

    frame: Frame
    over: bool = False
    saved: SavedFrame | None = None
    arrived: bool = False


class CursorMismatch(ValueError):
    """The loops begin in another order or kind than in the process that made the checkpoint."""


@dataclass(slots=True)
class Cursor:
    """The stack of running loops below the box, and what is left of the way back.

    Attributes:
        boundary: the frame between whose iterations the present boundary lies; None: in the body of the innermost.
        unsettled: loops have begun or ended, so `moved_on` has to be told.
    """

    frames: list[Frame] = field(default_factory=lambda: [Frame("box", 0, 1)])
    way_back: list[SavedFrame] = field(default_factory=list)
    boundary: Frame | None = None
    unsettled: bool = False

    @classmethod
    def resumed(cls, saved: Sequence[SavedFrame]) -> Self:
        """A cursor that finds back to where `saved` was; its first frame is the box's own."""
        cursor = cls()
        if saved:
            cursor.frames[0].over_before = saved[0].ended
            cursor.way_back = list(saved[1:])
        return cursor

    @property
    def finding_back(self) -> bool:
        """Loops that were in the middle of an iteration, or between two, have not all begun again."""
        return any(not saved.waiting for saved in self.way_back)

    def begin(self, kind: str) -> Entry:
        """A loop begins.

        Raises:
            CursorMismatch: the checkpoint was made by a script with other loops.
        """
        self.unsettled = True
        parent = self.frames[-1]
        frame = Frame(kind, parent.ended)
        if frame.ordinal < parent.over_before:
            parent.ended += 1
            return Entry(
                frame, over=True, arrived=not self.finding_back and parent.ended == parent.over_before
            )
        if not self.way_back:
            self.frames.append(frame)
            return Entry(frame)
        saved = self.way_back[0]
        if frame.kind != saved.kind or frame.ordinal != saved.ordinal:
            raise CursorMismatch(
                f"the checkpoint was made inside box.{saved.kind} (loop {saved.ordinal + 1} there), "
                f"but here box.{frame.kind} (loop {frame.ordinal + 1}) begins"
            )
        self.way_back.pop(0)
        frame.index = saved.index
        frame.over_before = saved.ended
        self.frames.append(frame)
        return Entry(frame, saved=saved, arrived=not saved.waiting and not self.finding_back)

    def moved_on(self, frame: Frame) -> None:
        """An iteration of `frame` is over. Loops that are still open inside it are read in step with it.

        Raises:
            CursorMismatch: the loop that the checkpoint was made in has not begun again.
        """
        if self.finding_back:
            raise CursorMismatch(
                f"the checkpoint was made inside box.{self.way_back[0].kind}, which did not begin here"
            )
        self.unsettled = False
        frame.ended = frame.over_before = 0
        self.way_back.clear()
        for waiting in self.frames[self.frames.index(frame) + 1 :]:
            waiting.ordinal = waiting.ended = waiting.over_before = 0
            waiting.follows = frame.kind != "epochs"

    def end(self, frame: Frame) -> None:
        """The loop of `frame` is over, or was left by the script's own break, return or exception."""
        if self.boundary is frame:  # it holds what the loop reads from
            self.boundary = None
        if frame in self.frames:
            self.unsettled = True
            position = self.frames.index(frame)
            del self.frames[position]
            self.frames[position - 1].ended += 1

    def saved_frames(self) -> list[SavedFrame]:
        """The stack as a checkpoint stores it, the box first."""
        between = self.frames.index(self.boundary) if self.boundary in self.frames else len(self.frames)
        return [
            SavedFrame(
                f.kind,
                f.ordinal,
                f.index if depth >= between and not f.spent else max(0, f.index - 1),
                f.ended,
                f.opening,
                depth > between,
                depth < between,
                f.spent,
                f.batch_size,
                f.length,
            )
            for depth, f in enumerate(self.frames)
        ]


class PlaceMismatch(ValueError):
    """A place in the data, counted in batches of one size, is no place in batches of the size they have now."""


def place_in_batches(saved: SavedFrame, batch_size: int | None, length: int | None) -> tuple[int, str]:
    """Batches that are over in a pass whose batches may have another size now, and what to say of it, if anything.

    Raises:
        PlaceMismatch: the boundary lies inside a batch of the size they have now.
    """
    then = saved.batch_size
    if then is None or batch_size is None or then == batch_size:
        if saved.length is None or length is None or saved.length == length:
            return saved.index, ""
        return saved.index, (
            f"a pass over the data had {saved.length} batches and has {length} now; it continues after {saved.index} of them"
        )
    if saved.again:
        return max(0, (length or 1) - 1), ""
    samples = saved.index * then
    change = f"it was made with batches of {then} samples, and now they have {batch_size}"
    if saved.midway or samples % batch_size:
        where = (
            "in the middle of one" if saved.midway else f"after {samples} samples, which is inside a batch"
        )
        raise PlaceMismatch(f"{change}; its position is {where}")
    return (
        samples // batch_size,
        f"{change}; the pass continues after the {samples} samples that were trained",
    )


def frames_to_state(frames: Sequence[SavedFrame]) -> list[dict[str, Any]]:
    """The frames as plain values for the codec."""
    return [
        {
            "kind": f.kind,
            "ordinal": f.ordinal,
            "index": f.index,
            "ended": f.ended,
            "opening": f.opening,
            "waiting": f.waiting,
            "midway": f.midway,
            "again": f.again,
            "batch_size": f.batch_size,
            "length": f.length,
        }
        for f in frames
    ]


def frames_from_state(state: Sequence[Mapping[str, Any]]) -> list[SavedFrame]:
    """The inverse of `frames_to_state`.

    Raises:
        ValueError: it is not a list of frames.
    """
    frames = []
    for item in state:
        kind = item.get("kind")
        counts = [c for c in (item.get(key) for key in ("ordinal", "index", "ended")) if isinstance(c, int)]
        if not isinstance(kind, str) or len(counts) != 3 or min(counts) < 0:
            raise ValueError(f"not a loop position: {item!r}")
        waiting, midway, again = (bool(item.get(key, False)) for key in ("waiting", "midway", "again"))
        sizes = (item.get(key) for key in ("batch_size", "length"))
        batch_size, length = (size if isinstance(size, int) and size > 0 else None for size in sizes)
        opening = item.get("opening")
        ordinal, index, ended = counts
        frames.append(
            SavedFrame(kind, ordinal, index, ended, opening, waiting, midway, again, batch_size, length)
        )
    return frames
