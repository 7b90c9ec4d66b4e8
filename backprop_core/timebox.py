"""`timebox`: a time budget around a training loop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime
from os import PathLike
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from backprop_core.budget import Duration
from backprop_core.clock import SYSTEM, Clock
from backprop_core.cursor import Cursor, CursorMismatch, Entry, Frame, SavedFrame
from backprop_core.errors import BackpropError, BoxError, StateMismatchError, UsageError
from backprop_core.forecast import Phase
from backprop_core.framework import frameworks_in_use
from backprop_core.keeping import Keeping
from backprop_core.outcome import Outcome
from backprop_core.reading import open_reading
from backprop_core.session import Session
from backprop_core.settings import DEFAULT_GRACE_S, Resume, Settings, make_settings

T = TypeVar("T")

_open_box: TimeBox | None = None

_INNER = frozenset({"batches", "steps"})

_MAKE_IT_EXACT = (
    "This loop got its state back but not its own counters: it begins to count anew. Two lines make it exact: "
    "for epoch in box.epochs(N): and for batch in box.batches(loader):"
)


class LeaveBox(BaseException):
    """Leaves the block from a boundary. Not an Exception, so that a script's own `except Exception` lets it pass."""

    def __init__(self, box: TimeBox) -> None:
        super().__init__("the time box is over")
        self.box = box


class TimeBox:
    """A training loop with a budget. Made by `timebox`; used as a context manager, once."""

    def __init__(self, settings: Settings, objects: Mapping[str, object], clock: Clock = SYSTEM) -> None:
        self._settings = settings
        self._named = dict(objects)
        self._clock = clock
        self._monotonic = clock.monotonic
        self._session: Session | None = None
        self._keeping: Keeping | None = None
        self._hooks = ExitStack()
        self._raw_hooks = ExitStack()
        self._loops_used = False
        self._late = False
        self._searched = False
        self._pending = 0
        self._by_hand: tuple[Session, Keeping] | None = None
        self._epochs: int | None = None

    # -- what it tells -----------------------------------------------------------------------------------------

    @property
    def outcome(self) -> Outcome:
        """How the attempt ended; `running` while it has not."""
        return Outcome.RUNNING if self._session is None else self._session.outcome

    @property
    def checkpoint(self) -> Path | None:
        """The newest committed checkpoint of the run, a folder, or None."""
        info = None if self._session is None else self._session.checkpoint
        return None if info is None else info.path

    @property
    def remaining(self) -> float:
        """Seconds to the deadline, never negative."""
        return self._running().remaining_s()

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self._running().run_id

    @property
    def resumed_from(self) -> Path | None:
        """The checkpoint that this attempt began from, or None."""
        path = None if self._session is None else self._session.resumed_from
        return None if path is None else Path(path)

    def _running(self) -> Session:
        if self._session is None:
            raise BoxError(
                "The time box has not been entered.", "Use it as: with backprop.timebox() as box: ..."
            )
        return self._session

    # -- the block ---------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        global _open_box
        if self._session is not None:
            raise BoxError("This time box has been used already.", "Make a new one with backprop.timebox().")
        if _open_box is not None:
            raise BoxError(
                f"A time box is already open in this process (run {_open_box.run_id}).",
                "Leave it before opening another; one box inside another cannot both decide when to stop.",
            )
        keeping = Keeping(frameworks_in_use())
        keeping.track(self._named)
        session = Session(self._settings, keeping, clock=self._clock)
        session.open()
        self._keeping, self._session = keeping, session
        _open_box = self
        try:
            self._set_up(sys._getframe(1))
        except BaseException as error:
            self._close(Outcome.FAILED, f"{type(error).__name__}: {error}")
            raise
        return self

    def _set_up(self, caller: FrameType) -> None:
        session, keeping = self._running(), self._kept()
        keeping.found = not keeping.has_optimizer()
        for framework in keeping.frameworks:
            self._hooks.enter_context(framework.watch_steps(keeping.optimizer_stepped))
            raw = framework.raw_loop(self, keeping, caller) if keeping.raw is None else None
            if raw is not None:
                keeping.raw = raw
                self._raw_hooks = self._hooks.enter_context(ExitStack())
                self._raw_hooks.enter_context(raw.watch())
        self._restore()
        session.weigh()
        if session.restored is None:
            session.boundary(0)

    def _kept(self) -> Keeping:
        if self._keeping is None:
            raise BoxError(
                "The time box has not been entered.", "Use it as: with backprop.timebox() as box: ..."
            )
        return self._keeping

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        session = self._running()
        ours = isinstance(error, LeaveBox) and error.box is self
        if error is not None and not ours and session.requests.signalled and session.leaving is None:
            ours = self._is_debris(error)
        leaving = session.leaving
        if ours or (leaving is not None and isinstance(error, GeneratorExit | type(None))):
            self._close(leaving.outcome if leaving else Outcome.PREEMPTED, "")
        elif error is None:
            self._count_last_step()
            self._close(Outcome.COMPLETED, "")
        elif isinstance(error, KeyboardInterrupt):
            self._close(Outcome.STOPPED, "interrupted by the keyboard")
        else:
            self._close(Outcome.FAILED, f"{type(error).__name__}: {error}")
        ended_early = session.outcome in (Outcome.TIMEBOXED, Outcome.PREEMPTED, Outcome.STOPPED)
        if ended_early and session.enrolment.governed and (ours or error is None):
            raise SystemExit(0)
        return ours

    def _count_last_step(self) -> None:
        """An unchanged loop has no boundary behind its last step."""
        keeping = self._kept()
        if keeping.raw is not None and not self._loops_used and keeping.raw.step_is_open():
            keeping.step += 1

    def _is_debris(self, error: BaseException) -> bool:
        """A loader's workers were killed by the same signal: save what the last boundary left, and leave."""
        return (
            any(framework.is_stop_debris(error) for framework in self._kept().frameworks)
            and self._leave_debris()
        )

    def _leave_debris(self) -> bool:
        self._running().leave_at_once("a stop signal ended the loader's workers")
        return True

    def _close(self, outcome: Outcome, reason: str) -> None:
        global _open_box
        session = self._running()
        try:
            self._hooks.close()
        finally:
            _open_box = None
            session.close(outcome, reason)
            # A loader must not wait for the garbage collector: its workers would then end ten seconds late.
            self._kept().release()
            if session.restored is not None:
                session.restored.states.clear()

    # -- restoring ---------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        session, keeping = self._running(), self._kept()
        loaded = session.restored
        if loaded is None:
            return
        keeping.take_back_place(loaded.states, self._source())
        if keeping.found and keeping.raw is not None:
            wanted = set(keeping.saved_names(loaded.states)) - set(keeping.objects)
            there = {name: value for name, value in keeping.raw.candidates().items() if name in wanted}
            if wanted - set(there):
                self._late = True
                return
            keeping.track(there)
        missing = self._take_back()
        if missing:
            session.teller.say(
                f"{self._source()} holds nothing for {', '.join(missing)}: kept as the script made it.",
                "warning",
            )
        if not keeping.cursor.finding_back:
            self._resume_raw_loop()

    def _source(self) -> str:
        return f"Checkpoint {self._running().resumed_from}"

    def _take_back(self) -> list[str]:
        """Objects and randomness as they were at the boundary; the names that had no state."""
        session, keeping = self._running(), self._kept()
        if session.restored is None:
            return []
        states = session.restored.states
        missing = keeping.take_back_objects(states, self._source())
        keeping.take_back_randomness(states)
        return missing

    def _resume_raw_loop(self) -> None:
        session, keeping = self._running(), self._kept()
        if keeping.raw is None or session.restored is None:
            return
        states = session.restored.states
        position = keeping.raw_position(states)
        keeping.raw.resume(position, lambda: keeping.take_back_randomness(states))
        if not keeping.raw.restored_gradients_count(position):
            keeping.raw.forget_gradients()

    def _restore_late(self) -> None:
        """The objects did not exist when the block was entered: restore them now that they are in use.

        Raises:
            StateMismatchError: the training uses other objects; nothing was restored.
        """
        session, keeping = self._running(), self._kept()
        self._late = False
        assert session.restored is not None
        wanted = set(keeping.saved_names(session.restored.states)) - set(keeping.objects)
        if wanted:
            raise StateMismatchError(
                f"{self._source()} does not fit this script: it holds {', '.join(sorted(wanted))}, which training does "
                "not use. Nothing was restored.",
                "Run the script as it was, or start afresh with resume=False (a new run).",
            )
        self._take_back()
        self._resume_raw_loop()

    # -- boundaries --------------------------------------------------------------------------------------------

    def first_step(self) -> None:
        """Called by the watched loop just before the first optimizer step of the block."""
        session, keeping = self._running(), self._kept()
        if self._late and keeping.raw is not None:
            keeping.raw.nullify_until_boundary()
        if not self._loops_used and session.restored is not None:
            session.teller.say_once(_MAKE_IT_EXACT)

    def at_boundary(self, *, epoch_end: bool) -> None:
        """Called by the watched loop between two steps."""
        if self._loops_used:
            return
        session, keeping = self._running(), self._kept()
        if self._late:
            self._find()
            self._restore_late()
            return
        keeping.step += 1
        self._pending += 1
        if epoch_end or self._clock.monotonic() >= session.wake:
            pending, self._pending = self._pending, 0
            self._boundary(pending, Phase.EPOCH_END if epoch_end else Phase.PLAIN)

    def must_leave(self) -> bool:
        """Called by the watched loop inside something longer than a step, such as an evaluation."""
        session = self._running()
        return not self._loops_used and self._clock.monotonic() >= session.wake and session.look()

    def _find(self) -> None:
        """What training uses is known now."""
        self._searched = True
        session, keeping = self._running(), self._kept()
        fresh = keeping.find()
        if fresh:
            session.teller.say(f"found {_described(keeping.objects, fresh)}.")

    def _boundary(
        self, steps: int, phase: Phase = Phase.PLAIN, then: Phase | None = None, at: Frame | None = None
    ) -> None:
        session = self._running()
        self._kept().cursor.boundary = at
        if not self._searched and self._kept().found and (steps or session.steps):
            if self._late:
                raise StateMismatchError(
                    f"{self._source()} cannot be restored: its objects did not exist when the block was entered.",
                    "Make model and optimizer before the block, or name them: backprop.timebox(model=model, ...).",
                )
            self._find()
        if session.boundary(steps, phase=phase, then=then):
            raise LeaveBox(self)

    def _begin(self, kind: str) -> Entry:
        session, keeping = self._running(), self._kept()
        self._take_over()
        try:
            entry = keeping.cursor.begin(kind)
        except CursorMismatch as error:
            raise self._does_not_fit(error) from None
        if entry.arrived and session.restored is not None:
            self._take_back()  # code before this loop has run again and may have changed things
        return entry

    def _does_not_fit(self, error: CursorMismatch) -> StateMismatchError:
        return StateMismatchError(
            f"{self._source()} does not fit this script: {error}.",
            "Run the script as it was, or start afresh with resume=False (a new run).",
        )

    def _moved_on(self, frame: Frame) -> None:
        try:
            self._kept().cursor.moved_on(frame)
        except CursorMismatch as error:
            raise self._does_not_fit(error) from None

    def _count(self, frame: Frame) -> None:
        """Which loop counts the steps: the outermost box.steps does, else box.batches."""
        frames = self._kept().cursor.frames
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
        keeping, frame = self._kept(), entry.frame
        self._plan(epochs=count)
        try:
            first = frame.index
            for epoch in range(first, count):
                if epoch > first:
                    self._moved_on(frame)
                    self._boundary(0, at=frame)
                frame.index = epoch + 1
                yield epoch
        finally:
            keeping.cursor.end(frame)

    def batches(self, loader: Iterable[T], *, replay: bool = False) -> Iterator[T]:
        """The batches of one pass over `loader`; starts at the restored one. Each is followed by a boundary.

        Args:
            loader: a torch DataLoader, a StatefulDataLoader, or any iterable that gives the same items in each process.
            replay: fetch the batches that are already trained and throw them away, instead of skipping them by index.
                Slower, and exact even where the loader's workers draw random numbers.
        """
        session, keeping = self._running(), self._kept()
        keeping.meet_loader(loader, None if session.restored is None else session.restored.states)
        entry = self._begin("batches")
        if entry.over:
            return
        frame, saved = entry.frame, entry.saved
        reading = open_reading(loader, keeping, replay=replay)
        frame.opening = reading
        self._count(frame)
        self._plan(batches=reading.length)
        # A validation in the middle of a step is begun on a condition, so nobody could be led back into it: no boundaries.
        inner, before = _inside_a_step(keeping.cursor), keeping.optimizer_steps
        cursor, now, pending, edge = keeping.cursor, self._clock.monotonic, 0, (reading.length or 0) - 1
        try:
            iterator: Iterator[T] = reading.begin(
                None if saved is None else saved.opening, frame.index, self._randomness_behind(loader, saved)
            )
            if frame.index and reading.caveat:
                session.teller.say_once(reading.caveat)
            index = frame.index
            for batch in iterator:
                frame.index = index = index + 1
                yield batch
                if cursor.unsettled:
                    self._moved_on(frame)
                if frame.follows or (inner and keeping.optimizer_steps == before):
                    continue
                if frame.counts:
                    pending += 1
                    keeping.step += 1
                if index == edge:
                    self._boundary(pending, then=Phase.EPOCH_END, at=frame)
                    pending = 0
                elif now() >= session.wake and index != edge + 1:
                    self._boundary(pending, at=frame)
                    pending = 0
            keeping.batches_over = frame.index
            cursor.end(frame)
            if not frame.follows and not (inner and keeping.optimizer_steps == before):
                self._boundary(pending, Phase.EPOCH_END)
        except RuntimeError as error:  # only the fetch of a batch raises one here
            cursor.boundary = frame
            if session.requests.signalled and self._is_debris(error):
                raise LeaveBox(self) from error
            raise
        finally:
            cursor.end(frame)

    def _randomness_behind(self, loader: object, saved: SavedFrame | None) -> Callable[[], None]:
        """Sets every generator to where it was when the checkpoint was made, once the pass stands where it stood.

        A loader that waited above the boundary's own loop begins again in the middle of an iteration that already goes on:
        the global generators stay as they are then.
        """
        session, keeping = self._running(), self._kept()
        if saved is None or session.restored is None:
            return lambda: None
        states = session.restored.states
        now = keeping.randomness() if saved.waiting else None

        def resume() -> None:
            keeping.take_back_loader(loader, states)
            if now is None:
                keeping.take_back_randomness(states)
            else:
                keeping.set_randomness(now)

        return resume

    def steps(self, count: int) -> Iterator[int]:
        """The steps that are still to be trained, up to `count`; starts at the restored one."""
        _check_count("steps", count)
        entry = self._begin("steps")
        if entry.over:
            return
        session, keeping, frame = self._running(), self._kept(), entry.frame
        self._count(frame)
        if frame.counts and keeping.cursor.frames[-2].kind == "box":
            keeping.steps_planned = count
        cursor, now, pending = keeping.cursor, self._clock.monotonic, 0
        try:
            for step in range(frame.index, count):
                frame.index = step + 1
                yield step
                if cursor.unsettled:
                    self._moved_on(frame)
                if frame.counts:
                    pending += 1
                    keeping.step += 1
                if now() >= session.wake:
                    self._boundary(pending, at=frame)
                    pending = 0
        finally:
            keeping.cursor.end(frame)

    def step(self, **values: Any) -> None:
        """A boundary by hand, for a loop of any other shape: call it after each optimizer step.

        Inside box.batches or box.steps it only logs: the boundary of that loop follows anyway.

        Args:
            values: as in `log`.
        """
        session, keeping = self._by_hand or self._begin_by_hand()
        if values:
            session.log(values)
        frames = keeping.cursor.frames
        if len(frames) > 1 and any(frame.kind in _INNER for frame in frames):
            return
        keeping.step += 1
        self._pending += 1
        if self._monotonic() >= session.wake:
            pending, self._pending = self._pending, 0
            self._boundary(pending)

    def _begin_by_hand(self) -> tuple[Session, Keeping]:
        """What only the first `step` has to do."""
        self._by_hand = (self._running(), self._kept())
        self._take_over()
        return self._by_hand

    def _take_over(self) -> None:
        """The script tells its boundaries itself, so nothing need be watched from outside."""
        if not self._loops_used:
            self._loops_used = True
            self._raw_hooks.close()

    def log(self, **values: Any) -> None:
        """Values of the running step, such as `loss=loss`: shown in the progress and kept in the run's events.

        Zero-dimensional tensors are kept as they are and read about once a second, so logging does not wait for a GPU.
        """
        self._running().log(values)

    def track(self, **objects: object) -> None:
        """Keep these objects, too; on a resume they are restored at once.

        Raises:
            UsageError: nothing is known about an object of this kind, or its name is taken.
            StateMismatchError: what was saved does not fit; nothing was restored.
        """
        session, keeping = self._running(), self._kept()
        keeping.track(objects)
        if session.restored is not None:
            keeping.take_back_objects(
                {
                    name: state
                    for name, state in session.restored.states.items()
                    if name in objects or "." in name
                },
                f"Checkpoint {session.resumed_from}",
            )

    def _plan(self, *, epochs: int | None = None, batches: int | None = None) -> None:
        self._epochs = self._epochs if epochs is None else epochs
        if batches is not None and self._epochs is not None and self._kept().steps_planned is None:
            self._kept().steps_planned = batches * self._epochs


def _inside_a_step(cursor: Cursor) -> bool:
    """Whether the innermost loop was begun inside an iteration of box.batches or box.steps."""
    return any(frame.kind in ("batches", "steps") for frame in cursor.frames[:-1])


def _described(objects: Mapping[str, object], names: Iterable[str]) -> str:
    return ", ".join(f"{name} ({type(objects[name]).__name__})" for name in names)


def _check_count(what: str, count: object) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise UsageError(
            f"box.{what}({count!r}) is not a number of {what}.", "Give a whole number, zero or more."
        )


def timebox(
    budget: Duration | None = None,
    *,
    until: datetime | None = None,
    checkpoint_every: Duration | None = None,
    keep: int = 2,
    checkpoint_dir: str | PathLike[str] | None = None,
    run: str | None = None,
    name: str | None = None,
    resume: Resume = "auto",
    grace: Duration = DEFAULT_GRACE_S,
    **objects: object,
) -> TimeBox:
    """Give a training loop a time budget: `with backprop.timebox("10m", model=model, optimizer=optimizer) as box:`.

    Args:
        budget: None (10 minutes, or what the governor says), "90s", "10m", "1h30m", "00:10:00", a timedelta, seconds.
        until: a fixed deadline, an aware datetime.
        checkpoint_every: a duration between periodic checkpoints; None: saving takes at most 2% of the time.
        keep: committed checkpoints kept, 2 or more.
        checkpoint_dir: where checkpoints go; None: the run's own folder below $BACKPROP_HOME.
        run: the id of a run to create or continue; None makes one up.
        name: a label for people.
        resume: "auto" (when the governor says so or `run` names an unfinished run), True, False, or a checkpoint's path.
        grace: seconds given to a SIGTERM.
        objects: what to keep, by name; without an optimizer among them what training uses is found.

    Raises:
        UsageError: a value that cannot be meant; BudgetError among them.
    """
    settings = make_settings(
        budget=budget,
        until=until,
        checkpoint_every=checkpoint_every,
        keep=keep,
        checkpoint_dir=checkpoint_dir,
        run=run,
        name=name,
        resume=resume,
        grace=grace,
    )
    return TimeBox(settings, objects)


__all__ = ["BackpropError", "LeaveBox", "TimeBox", "timebox"]
