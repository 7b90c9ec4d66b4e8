"""A time box that only stands around loops which `backprop run` counts: the session is that of the loops."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, Self

from backprop_core.deadline.budget import resolve_deadlines
from backprop_core.errors import BoxError
from backprop_core.loop.counted_loops import loops
from backprop_core.loop.timebox import TimeBox
from backprop_core.outcome import Outcome
from backprop_core.runs.process import boot_id
from backprop_core.session import attach_rules
from backprop_core.session.boxed_training import how_it_ended, how_it_was_left
from backprop_core.session.session import Session
from backprop_core.session.settings import SessionSettings, ask_for


class CountedBox(TimeBox):
    """Hands its settings to the session that opens when training begins, and shows that session.

    The process ends at the deadline, as under `backprop run` without a box. What is behind the block runs when its loops
    are over.
    """

    _inside_block = False
    _ended: Outcome | None = None

    def _teller(self) -> Session | None:
        session = attach_rules.newest_session()
        return session if isinstance(session, Session) else None

    @property
    def outcome(self) -> Outcome:
        """How the block was left; `running` while it has not been."""
        return Outcome.RUNNING if self._ended is None else self._ended

    @property
    def remaining(self) -> float:
        """Seconds to the deadline, never negative; also before the training begins."""
        session = self._teller()
        if session is not None:
            return session.remaining_s()
        self._check_entered()
        settings, clock = self._settings, self._clock
        deadlines = resolve_deadlines(
            budget=settings.budget,
            until=settings.until,
            environ=settings.environ,
            clock=clock,
            boot_id=boot_id(),
        )
        return max(0.0, deadlines.earliest.at - clock.monotonic())

    def _check_entered(self) -> None:
        if not self._inside_block and self._ended is None:
            raise BoxError(
                "The time box has not been entered.", "Use it as: with backprop.timebox() as box: ..."
            )

    def log(self, **values: Any) -> None:
        """Values of the running step; those from before the first step are not kept."""
        self._check_entered()
        session = self._teller()
        if session is not None:
            session.log(values)

    def __enter__(self) -> Self:
        if self._inside_block or self._ended is not None:
            raise BoxError("This time box has been used already.", "Make a new one with backprop.timebox().")
        self._inside_block = True
        ask_for(self._settings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        self._inside_block = False
        session = self._teller()
        if error is not None and session is not None and session.leaving is not None:
            self._ended = how_it_was_left(session)
        else:
            self._ended, _ = how_it_ended(error)
        return False


def made_around_counted_loops(settings: SessionSettings) -> CountedBox | None:
    """A box that only surrounds its loops; None where they are not counted, and among ranks."""
    if not loops().is_followed() or attach_rules.is_one_of_several():
        return None
    return CountedBox(settings, {})
