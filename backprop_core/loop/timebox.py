"""`timebox`: a time budget around a training loop."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime
from os import PathLike
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from backprop_core.clock import SYSTEM, Clock
from backprop_core.deadline.budget import Duration
from backprop_core.errors import BackpropError, BoxError, UsageError
from backprop_core.loop.loop_state import LoopState
from backprop_core.loop.loops import LeaveBox, Loops
from backprop_core.loop.resume_loop import LoopRestorer
from backprop_core.loop.watched_loop import RawLoopListener
from backprop_core.outcome import Outcome
from backprop_core.ports.framework import Framework, frameworks_in_use, ranks_among
from backprop_core.quick_dataclass import dataclass
from backprop_core.session import attach_rules
from backprop_core.session.boxed_training import BoxFacts, how_it_ended, how_it_was_left
from backprop_core.session.leave_process import leave_process
from backprop_core.session.ranks import session_among
from backprop_core.session.session import Session
from backprop_core.session.settings import DEFAULT_GRACE_S, Resume, SessionSettings, make_settings

T = TypeVar("T")

_open_box: TimeBox | None = None


class TimeBox(BoxFacts):
    """A training loop with a time budget, created by `timebox`. It is a context manager that is used once."""

    def __init__(
        self, settings: SessionSettings, objects: Mapping[str, object], clock: Clock = SYSTEM
    ) -> None:
        self._settings = settings
        self._named = dict(objects)
        self._clock = clock
        self._session: Session | None = None
        self._parts: _Parts | None = None
        self._hooks = ExitStack()

    def _teller(self) -> Session | None:
        return self._session

    def _running(self) -> Session:
        return self._inside().loops.session

    def _inside(self) -> _Parts:
        if self._parts is None:
            raise BoxError(
                "The time box has not been entered.", "Use it as: with backprop.timebox() as box: ..."
            )
        return self._parts

    # -- the block ---------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        global _open_box
        if self._session is not None:
            raise BoxError("This time box has been used already.", "Make a new one with backprop.timebox().")
        if _open_box is not None:
            raise BoxError(
                f"A time box is already open in this process (run {_open_box.run_id}).",
                "Leave it before you open another: two nested boxes cannot both decide when to stop.",
            )
        loop_state = LoopState(frameworks_in_use())
        loop_state.track(self._named)
        ranks = ranks_among(loop_state.frameworks)
        if ranks is None:
            _check_alone(self._settings.environ, loop_state.frameworks)
        session = session_among(ranks, self._settings, loop_state, self._clock)
        self._opens(session.open)
        restorer = LoopRestorer(session, loop_state)
        self._session, self._parts = (
            session,
            _Parts(loop_state, restorer, Loops(session, loop_state, restorer, self._clock)),
        )
        _open_box = self
        try:
            self._set_up(self._parts, sys._getframe(1))
        except BaseException as error:
            self._close(Outcome.FAILED, f"{type(error).__name__}: {error}")
            raise
        return self

    def _set_up(self, parts: _Parts, caller: FrameType) -> None:
        session, loop_state, loops = parts.loops.session, parts.loop_state, parts.loops
        loop_state.found = not loop_state.has_optimizer()
        listener = RawLoopListener(loops, parts.restorer, self._clock)
        for framework in loop_state.frameworks:
            self._hooks.enter_context(framework.watch_steps(loop_state.optimizer_stepped))
            raw = framework.raw_loop(listener, loop_state, caller) if loop_state.raw is None else None
            if raw is not None:
                loop_state.raw = raw
                loops.raw_hooks = self._hooks.enter_context(ExitStack())
                loops.raw_hooks.enter_context(raw.watch())
                loops.raw_hooks.enter_context(loop_state.kept.released_when_collected())
        loop_state.script.look()
        session.together(lambda: _restore(parts))
        vars(self)["step"] = loops.by_hand()  # the method below, in its shortest form
        if session.restored is None:
            session.boundary(0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        session, loops = self._running(), self._inside().loops
        ours = isinstance(error, LeaveBox) and error.loops is loops
        if error is not None and not ours and session.may_leave_by_itself and session.leaving is None:
            ours = loops.is_debris(error)
        leaving = session.leaving
        if ours or (leaving is not None and isinstance(error, GeneratorExit | type(None))):
            self._close(how_it_was_left(session), "")
        elif error is None:
            loops.count_last_step()
            self._close(Outcome.COMPLETED, "")
        else:
            self._close(*how_it_ended(error))
        ended_early = session.outcome in (Outcome.TIMEBOXED, Outcome.PREEMPTED, Outcome.STOPPED)
        if ended_early and session.governed and (ours or error is None):
            leave_process()
        return ours

    def _close(self, outcome: Outcome, reason: str) -> None:
        global _open_box
        session = self._running()
        try:
            self._hooks.close()
        finally:
            _open_box = None
            if outcome is Outcome.COMPLETED:
                session.complete(0)
            else:
                session.close(outcome, reason)
            # A loader must not wait for the garbage collector: its workers would then end ten seconds late.
            self._inside().loop_state.release()
            if session.restored is not None:
                session.restored.states.clear()

    # -- the loops ---------------------------------------------------------------------------------------------

    def epochs(self, count: int) -> Iterator[int]:
        """Yield the epochs that remain of `count`, starting at the restored one.

        Raises:
            UsageError: `count` is not a whole number, zero or more.
        """
        return self._inside().loops.epochs(count)

    def batches(self, loader: Iterable[T], *, replay: bool = False) -> Iterator[T]:
        """Yield the batches of one pass over `loader`, starting at the restored one. A boundary follows each batch.

        Args:
            loader: a torch DataLoader, a StatefulDataLoader, or any iterable that yields the same items in each process.
            replay: on a resume, load the trained batches again and discard them, instead of skipping them by index.
                Slower, but exact even if the loader's workers draw random numbers.
        """
        return self._inside().loops.batches(loader, replay=replay)

    def steps(self, count: int) -> Iterator[int]:
        """Yield the steps that remain of `count`, starting at the restored one.

        Raises:
            UsageError: `count` is not a whole number, zero or more.
        """
        return self._inside().loops.steps(count)

    def step(self, **values: Any) -> None:
        """Mark a boundary, in a loop of any other shape. Call it after each optimizer step.

        Inside `box.batches` or `box.steps` it only logs: these loops have their own boundaries.

        Args:
            values: logged as by `log`.
        """
        self._inside().loops.by_hand()(**values)

    def log(self, **values: Any) -> None:
        """Log values of the current step, such as `loss=loss`. They appear in the progress and in the run's events.

        Zero-dimensional tensors are read only about once a second, so logging does not wait for a GPU.
        """
        self._running().log(values)

    def track(self, **objects: object) -> None:
        """Save these objects, too. On a resume they are restored at once, or when the box is entered.

        Raises:
            UsageError: an object of this kind cannot be saved, or its name is taken.
            StateMismatchError: the saved state does not fit; nothing was restored.
        """
        if self._session is None:
            self._named.update(objects)
            return
        session, loop_state = self._running(), self._inside().loop_state
        loop_state.track(objects)
        if session.restored is not None:
            loop_state.restore_objects(
                {
                    name: state
                    for name, state in session.restored.states.items()
                    if name in objects or "." in name
                },
                f"Checkpoint {session.resumed_from}",
            )


def _restore(parts: _Parts) -> None:
    parts.restorer.restore()
    parts.loops.session.weigh()


def _check_alone(environ: Mapping[str, str], frameworks: Iterable[Framework]) -> None:
    """A launcher has started several processes, and a box of its own for each would stop each at another step.

    Raises:
        UsageError: they do not know of each other yet.
    """
    count, launched = environ.get("WORLD_SIZE", ""), environ.get("MASTER_ADDR")
    if launched and count.isdigit() and int(count) > 1 and any(one.name == "torch" for one in frameworks):
        raise UsageError(
            f"This is one of {count} processes (WORLD_SIZE), but torch.distributed is not initialized yet.",
            "Call torch.distributed.init_process_group before the time box, in every process.",
        )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What an entered box is made of."""

    loop_state: LoopState
    restorer: LoopRestorer
    loops: Loops


def timebox(
    budget: Duration | None = None,
    *,
    until: datetime | None = None,
    checkpoint_every: Duration | None = None,
    keep: int = 2,
    keep_every: int | None = None,
    checkpoint_dir: str | PathLike[str] | None = None,
    run: str | None = None,
    name: str | None = None,
    resume: Resume = "auto",
    grace: Duration = DEFAULT_GRACE_S,
    strict: bool = False,
    **objects: object,
) -> TimeBox:
    """Give a training loop a time budget: `with backprop.timebox("10m", model=model, optimizer=optimizer) as box:`.

    Args:
        budget: "90s", "10m", "1h30m", "00:10:00", a timedelta or a number of seconds; None: 10 minutes, or the box of
            `backprop run`.
        until: a fixed deadline, as an aware datetime.
        checkpoint_every: a duration between periodic checkpoints; None: saving takes at most 2% of the time.
        keep: number of newest checkpoints to keep, 2 or more.
        keep_every: also keep the first checkpoint at or after every multiple of this many steps.
        checkpoint_dir: folder or address for checkpoints; None: the run's own folder below $BACKPROP_HOME.
        run: id of the run to create or continue; None: a generated id.
        name: a label for people to read.
        resume: "auto" (resume under `backprop resume`, or if `run` is an unfinished run), True, False, or the path of a
            checkpoint.
        grace: time between SIGTERM and the exit, as a duration.
        strict: raise an error, instead of printing a line, if something changes during training that cannot be kept.
        objects: objects to save, by name. Without an optimizer among them, backprop finds what training uses.

    Raises:
        UsageError: a value is not allowed. Its subclass BudgetError: a duration is not.
    """
    settings = make_settings(
        budget=budget,
        until=until,
        checkpoint_every=checkpoint_every,
        keep=keep,
        keep_every=keep_every,
        checkpoint_dir=checkpoint_dir,
        run=run,
        name=name,
        resume=resume,
        grace=grace,
        strict=strict,
        framework=", ".join(framework.name for framework in frameworks_in_use()),
    )
    counted = None if objects else attach_rules.box_around_counted_loops(settings)
    return counted if isinstance(counted, TimeBox) else TimeBox(settings, objects)


__all__ = ["BackpropError", "LeaveBox", "TimeBox", "timebox"]
