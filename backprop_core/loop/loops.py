"""The loops of a box: each counts, knows where it is, and comes to a boundary between two steps.

The bodies of `batches` and `steps` are the hot path of plain PyTorch: a short step pays for one comparison with the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

from backprop_core.clock import Clock
from backprop_core.deadline.forecast import Phase
from backprop_core.errors import StateMismatchError, UsageError
from backprop_core.loop.loop_position import Cursor, CursorMismatch, Entry, Frame, SavedFrame
from backprop_core.loop.loop_state import LoopState
from backprop_core.loop.readings import open_reading
from backprop_core.loop.resume_loop import LoopRestorer
from backprop_core.loop.resume_pass import ResumedPasses
from backprop_core.ports.loaders import LoaderReading
from backprop_core.session.proof import noted
from backprop_core.session.session import Session

T = TypeVar("T")

_INNER = frozenset({"batches", "steps"})


class LeaveBox(BaseException):
    """Leaves the block from a boundary. Not an Exception, so that a script's own `except Exception` lets it pass."""

    def __init__(self, loops: Loops) -> None:
        super().__init__("the time box is over")
        self.loops = loops


class EpochStart:
    """The randomness that reigned when the running epoch began.

    Code between the start of an epoch and its inner loop runs again on a resume, and has to draw what it drew: an order of
    the data, say, that the inner loop then goes through.
    """

    def __init__(self) -> None:
        self.randomness: Any = None

    def position(self, *, midway: bool) -> Any:
        return self.randomness if midway else None


class Loops:
    """The loops of one box.

    Attributes:
        used: the script tells its boundaries itself, by these loops or by `step`.
        raw_hooks: what watches an unchanged loop until then.
    """

    def __init__(self, session: Session, loop_state: LoopState, restorer: LoopRestorer, clock: Clock) -> None:
        self.session = session
        self.loop_state = loop_state
        self.used = False
        self.raw_hooks = ExitStack()
        self.pending = 0
        self._restorer = restorer
        self._passes = ResumedPasses(restorer)
        self._clock = clock
        self._epochs: int | None = None

    def is_debris(self, error: BaseException) -> bool:
        """Whether a loader's workers were killed by the stop signal; then the last boundary's state is saved.

        Not where the box's loops have been left already by the error: nobody knows any more where they were.
        """
        debris = any(framework.is_stop_debris(error) for framework in self.loop_state.frameworks)
        if debris:
            known = not self.used or len(self.loop_state.cursor.frames) > 1
            self.session.leave_at_once("a stop signal ended the loader's workers", save=known)
        return debris

    def boundary(
        self, steps: int, phase: Phase = Phase.PLAIN, then: Phase | None = None, at: Frame | None = None
    ) -> None:
        session = self.session
        self.loop_state.script.settled = self.loop_state.script.settled or steps > 0
        self.loop_state.cursor.boundary = at
        self.loop_state.kept.release_dropped()
        if not self._restorer.searched and self.loop_state.found and (steps or session.steps):
            if self._restorer.late:
                raise StateMismatchError(
                    f"{self._restorer.source} cannot be restored: its objects did not exist when the block was entered.",
                    "Make model and optimizer before the block, or name them: backprop.timebox(model=model, ...).",
                )
            self._restorer.find()
        if session.boundary(steps, phase=phase, then=then):
            raise LeaveBox(self)

    def _begin(self, kind: str) -> Entry:
        session, loop_state = self.session, self.loop_state
        self.take_over()
        try:
            entry = loop_state.cursor.begin(kind)
        except CursorMismatch as error:
            raise self._does_not_fit(error) from None
        loop_state.script.look()
        if entry.arrived and session.restored is not None:
            self._restorer.arrive()  # code before this loop has run again and may have changed things
        return entry

    def _does_not_fit(self, error: CursorMismatch) -> StateMismatchError:
        return StateMismatchError(
            f"{self._restorer.source} does not fit this script: {error}.",
            "Run the script as it was, or start from scratch with resume=False (a new run).",
        )

    def _moved_on(self, frame: Frame) -> None:
        try:
            self.loop_state.cursor.moved_on(frame)
        except CursorMismatch as error:
            raise self._does_not_fit(error) from None

    def _count(self, frame: Frame) -> None:
        """Which loop counts the steps: the outermost box.steps does, else box.batches."""
        frames = self.loop_state.cursor.frames
        if frame.kind == "steps":
            for outer in frames:
                outer.counts = False
        frame.counts = all(f.kind != "steps" for f in frames if f is not frame)

    def epochs(self, count: int) -> Iterator[int]:
        """The epochs that are still to be trained, up to `count`; starts at the restored one."""
        _check_count("epochs", count)
        entry = self._begin("epochs")
        if entry.over:
            return
        loop_state, frame, saved = self.loop_state, entry.frame, entry.saved
        self._plan(epochs=count)
        start = frame.opening = EpochStart()
        try:
            first = frame.index
            for epoch in range(first, count):
                if epoch > first:
                    self._moved_on(frame)
                    self.boundary(0, at=frame)
                elif saved is not None and saved.midway and saved.opening is not None:
                    loop_state.set_randomness(saved.opening)
                start.randomness = loop_state.randomness()
                frame.index = epoch + 1
                yield epoch
        finally:
            loop_state.cursor.end(frame)

    def batches(self, loader: Iterable[T], *, replay: bool = False) -> Iterator[T]:
        """The batches of one pass over `loader`; starts at the restored one. Each is followed by a boundary.

        Args:
            loader: a torch DataLoader, a StatefulDataLoader, or any iterable that gives the same items in each process.
            replay: fetch the batches that are already trained and throw them away, instead of skipping them by index.
                Slower, and exact even where the loader's workers draw random numbers.
        """
        session, loop_state = self.session, self.loop_state
        loop_state.meet_loader(loader, None if session.restored is None else session.restored.states)
        entry = self._begin("batches")
        if entry.over:
            return
        frame, saved = entry.frame, entry.saved
        reading = open_reading(loader, loop_state, replay=replay)
        self._open_pass(frame, reading, saved)
        # A validation in the middle of a step is begun on a condition, so nobody could be led back into it: no boundaries.
        inner, before = _inside_a_step(loop_state.cursor), loop_state.optimizer_steps
        cursor, now, pending, edge = loop_state.cursor, self._clock.monotonic, 0, (reading.length or 0) - 1
        index = frame.index
        try:
            iterator, again = self._passes.begin(loader, reading, frame, saved)
            iterator = iter(noted(iterator))
            index = frame.index
            while True:
                frame.index = index + 1
                try:
                    yield next(iterator)  # by no name of ours: what the script drops must be gone
                except StopIteration:
                    break
                index += 1
                if cursor.unsettled:
                    self._moved_on(frame)
                if again:
                    again = False
                    self._restorer.arrive()
                    continue
                if frame.follows or (inner and loop_state.optimizer_steps == before):
                    continue
                if frame.counts:
                    pending += 1
                    loop_state.step += 1
                if index == edge or (now() >= session.wake and index != edge + 1):
                    self.boundary(pending, then=Phase.LOOP_END if index == edge else None, at=frame)
                    pending = 0
            frame.index = loop_state.batches_over = index
            if not frame.follows and not (inner and loop_state.optimizer_steps == before):
                self._boundary_behind(frame, pending)
        except (RuntimeError, OSError, EOFError) as error:  # only the fetch of a batch raises one here
            frame.index, cursor.boundary = index, frame
            if session.may_leave_by_itself and self.is_debris(error):
                raise LeaveBox(self) from error
            raise
        finally:
            cursor.end(frame)

    def _open_pass(self, frame: Frame, reading: LoaderReading, saved: SavedFrame | None) -> None:
        """Before the first batch of a pass: where it begins, and what is known of it."""
        if saved is not None:
            frame.index = self._passes.place(saved, reading)
        frame.opening = reading
        frame.batch_size, frame.length = reading.batch_size, reading.length
        self._count(frame)
        self._plan(batches=reading.length)

    def _boundary_behind(self, frame: Frame, pending: int) -> None:
        """The boundary behind the last iteration of a loop, before the code behind it; see decisions/0004."""
        cursor = self.loop_state.cursor
        if frame.index and cursor.frames[-1] is frame:
            frame.spent = True
            self.boundary(pending, Phase.LOOP_END, at=frame)
        else:  # it gave nothing, or loops that are read in step with it wait above it
            cursor.end(frame)
            self.boundary(pending, Phase.LOOP_END)

    def steps(self, count: int) -> Iterator[int]:
        """The steps that are still to be trained, up to `count`; starts at the restored one."""
        _check_count("steps", count)
        entry = self._begin("steps")
        if entry.over:
            return
        session, loop_state, frame = self.session, self.loop_state, entry.frame
        self._count(frame)
        if frame.counts and loop_state.cursor.frames[-2].kind == "box":
            loop_state.steps_planned = count
        cursor, now, pending = loop_state.cursor, self._clock.monotonic, 0
        try:
            if entry.saved is not None and entry.saved.again and frame.index < count:
                frame.index += 1
                yield frame.index - 1
                if cursor.unsettled:
                    self._moved_on(frame)
                self._restorer.arrive()
                return
            for step in range(frame.index, count):
                frame.index = step + 1
                yield step
                if cursor.unsettled:
                    self._moved_on(frame)
                if frame.counts:
                    pending += 1
                    loop_state.step += 1
                if now() >= session.wake and step + 1 < count:
                    self.boundary(pending, at=frame)
                    pending = 0
            if pending or not frame.counts:
                self._boundary_behind(frame, pending)
        finally:
            loop_state.cursor.end(frame)

    def by_hand(self) -> Callable[..., None]:
        """`box.step` as a closure: a short step pays for one call and one look at the clock.

        Inside one of the other loops, whose boundary follows anyway, it only logs.
        """
        session, frames, now = self.session, self.loop_state.cursor.frames, self._clock.monotonic
        uncounted = 0

        def step(**values: Any) -> None:
            nonlocal uncounted
            if values:
                session.log(values)
            if not uncounted:
                self.take_over()
            if len(frames) > 1 and any(frame.kind in _INNER for frame in frames):
                return
            uncounted += 1
            if now() >= session.wake:
                self.boundary_of_pending(Phase.PLAIN)

        def count() -> None:
            nonlocal uncounted
            self.pending += uncounted
            self.loop_state.step += uncounted
            uncounted = 0

        self.loop_state.count_steps = count
        return step

    def boundary_of_pending(self, phase: Phase) -> None:
        """A boundary for the steps that were counted without one."""
        self.loop_state.count_steps()
        pending, self.pending = self.pending, 0
        self.boundary(pending, phase)

    def count_last_step(self) -> None:
        """An unchanged loop has no boundary behind its last step."""
        raw = self.loop_state.raw
        if raw is not None and not self.used and raw.step_is_open():
            self.loop_state.step += 1

    def take_over(self) -> None:
        """The script tells its boundaries itself, so nothing need be watched from outside."""
        if not self.used:
            self.used = True
            self.raw_hooks.close()

    def _plan(self, *, epochs: int | None = None, batches: int | None = None) -> None:
        self._epochs = self._epochs if epochs is None else epochs
        if batches is not None and self._epochs is not None and self.loop_state.steps_planned is None:
            self.loop_state.steps_planned = batches * self._epochs


def _inside_a_step(cursor: Cursor) -> bool:
    """Whether the innermost loop was begun inside an iteration of box.batches or box.steps."""
    return any(frame.kind in ("batches", "steps") for frame in cursor.frames[:-1])


def _check_count(what: str, count: object) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise UsageError(
            f"box.{what}({count!r}) is not a number of {what}.", "Give a whole number, zero or more."
        )
