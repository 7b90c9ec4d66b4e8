"""The training of a cell of a notebook: its loops are counted as a script's are, and the kernel lives on behind it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from backprop_core.clock import SYSTEM, Clock
from backprop_core.errors import BackpropError
from backprop_core.loop.counted_loops import CountedLoops
from backprop_core.loop.running_loop import RunningLoop
from backprop_core.loop.script_training import ScriptTraining
from backprop_core.outcome import Outcome
from backprop_core.session.session import Session
from backprop_core.session.settings import SessionSettings


class CellOver(BaseException):
    """Leaves the cell from a boundary. Not an Exception, so that a cell's own `except Exception` lets it pass."""


class CellTraining(ScriptTraining):
    """What the counted loops of one cell tell, turned into a session's boundaries.

    Args:
        settings: makes those of the session when it opens, from what trains; the time since the cell began counts.
        shows: told at boundaries of a session that is open.

    Attributes:
        outcome: how the cell's training ended; None where nothing has trained.
        refused: why the cell must not go on, or None.
    """

    def __init__(
        self,
        loops: CountedLoops,
        settings: Callable[[str], SessionSettings],
        shows: Callable[[Session], None],
        clock: Clock = SYSTEM,
    ) -> None:
        super().__init__(loops, clock)
        self._settings = settings
        self._shows = shows
        self.last_session: Session | None = None
        self.refused: BackpropError | None = None

    @property
    def outcome(self) -> Outcome | None:
        return None if self.last_session is None else self.last_session.outcome

    def may_begin(self) -> bool:
        """The user has asked for it."""
        return True

    def may_resume(self) -> bool:
        """The session opens before the loop begins, and looks itself."""
        return True

    def settings_for(self, label: str) -> SessionSettings:
        return self._settings(label)

    def when_over(self) -> Callable[[], None]:
        """The cell's end is told by `over`."""
        self.last_session = self.session
        return lambda: None

    def go_away(self) -> None:
        """Raises CellOver."""
        raise CellOver

    def refuse(self, error: BackpropError) -> None:
        """Raises CellOver; the magic says why."""
        self.refused = error
        raise CellOver from None

    def boundary(self, loop: RunningLoop, frame: object) -> None:
        super().boundary(loop, frame)  # type: ignore[arg-type]
        if self.session is not None:
            with suppress(Exception):  # a display is no reason to stop a training
                self._shows(self.session)

    def _fails(self, error: Exception) -> None:
        if isinstance(error, BackpropError) and self.last_session is None:
            self._step_aside()
            self.refuse(error)
        super()._fails(error)

    def release(self) -> None:
        """Watch nothing any more: the kernel lives on, and the next cell has a training of its own."""
        self.loops.training = None
        self._hooks.close()

    def over(self, error: BaseException | None) -> None:
        """The cell has ended: by itself, or by `error`."""
        if self.session is None:
            return
        if error is None and self.loops.going_back:
            with suppress(CellOver):
                self.lost(self.loops.awaited)
            return
        self._close_after(error)
