"""Sessions of several processes that train together in a loop that has never heard of us.

The first rank has the session: it decides, saves and talks. All count the same boundaries, and at those they have agreed on
they hear of each other's signals and the others wait for the first, which may ask for their part of a checkpoint. So no
collective is paid for each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backprop_core.checkpoints.store import CheckpointStore, Loaded
from backprop_core.clock import Clock
from backprop_core.decision import Action, Verdict
from backprop_core.enrolment import NotJoinedError
from backprop_core.errors import BackpropError
from backprop_core.forecast import Phase
from backprop_core.framework import Ranks
from backprop_core.keeping import Keeping
from backprop_core.outcome import Outcome, SaveReason
from backprop_core.session import Session
from backprop_core.settings import Settings
from backprop_core.signals import SignalWatch


@dataclass(frozen=True, slots=True)
class Opening:
    """What the first rank tells the others when its session is open.

    Attributes:
        error: why it is not, or empty.
        resumed_from: the checkpoint to go on from.
    """

    error: str = ""
    resumed_from: str | None = None


class LeadingSession(Session):
    """The first rank's."""

    def __init__(self, settings: Settings, keeping: Keeping, ranks: Ranks, clock: Clock) -> None:
        super().__init__(settings, keeping, clock=clock)
        self._keeping = keeping
        self._ranks = ranks
        self._countdown = 0
        self._waiting_steps = 0

    def open(self) -> None:
        try:
            super().open()
        except BackpropError as error:
            self._ranks.share(Opening(error=str(error)))
            raise
        self._ranks.share(Opening(resumed_from=self.resumed_from))
        if self.restored is not None:
            self.restored.states.update(Keeping.for_rank(self.restored.states, 0, self._ranks.count))

    def boundary(self, steps: int, *, phase: Phase = Phase.PLAIN, then: Phase | None = None) -> bool:
        self._waiting_steps += steps
        self._countdown -= 1
        if self._countdown > 0 and phase is Phase.PLAIN:
            return False
        ranks, began = self._ranks, self.clock.monotonic()
        number = ranks.hear(int(self.requests.heard or 0))
        talked_s = self.clock.monotonic() - began
        if number:
            self.requests.hear_of(number)
        self._keeping.other_ranks = self._ask
        try:
            leave = super().boundary(self._waiting_steps, phase=phase, then=then)
        except BaseException:
            ranks.release(True, 0, Outcome.FAILED)
            raise
        finally:
            self._keeping.other_ranks = None
            self._waiting_steps = 0
            self.wake = 0.0  # every boundary counts
        self._countdown = ranks.boundaries_to_next_talk(self, talked_s)
        ranks.release(
            leave, self._countdown, Outcome.RUNNING if self.leaving is None else self.leaving.outcome
        )
        return leave

    def _ask(self, own: Mapping[str, object]) -> list[Any]:
        self._ranks.ask_for_states()
        return self._ranks.gather(own)

    def look(self) -> bool:
        """An evaluation is not left: not every rank may be in one."""
        return False


class FollowingSession(Session):
    """Another rank's: it hears signals, gives its part of a save, and leaves when it is told to."""

    def __init__(self, settings: Settings, keeping: Keeping, ranks: Ranks, clock: Clock) -> None:
        super().__init__(settings, keeping, clock=clock, silent=True)
        self._keeping = keeping
        self._ranks = ranks
        self._countdown = 0
        self._signals = SignalWatch(clock.monotonic, lambda: None)

    def open(self) -> None:
        """Hear what the first rank has found, and load the same checkpoint, verified here as well.

        Raises:
            NotJoinedError: the first rank has no session.
            CheckpointError: the checkpoint cannot be read from this rank.
        """
        opening: Opening = self._ranks.share(None)
        if opening.error:
            raise NotJoinedError(opening.error)
        if opening.resumed_from is not None:
            path = Path(opening.resumed_from)
            loaded = CheckpointStore(path.parent, clock=self.clock).load(path, self.trainee.translators)
            states = Keeping.for_rank(loaded.states, self._ranks.rank, self._ranks.count)
            self.restored = Loaded(loaded.info, states)
        self._signals.start()

    def weigh(self) -> None:
        """The first rank does."""

    def boundary(self, steps: int, *, phase: Phase = Phase.PLAIN, then: Phase | None = None) -> bool:
        self._countdown -= 1
        if self._countdown > 0 and phase is Phase.PLAIN:
            return False
        self._ranks.hear(int(self._signals.received or 0))
        leave, self._countdown, outcome = self._ranks.follow(self._keeping.own_part)
        if leave:
            self.leaving = Verdict(Action.STOP, SaveReason.DEADLINE, outcome, "the first rank says so")
        return leave

    def look(self) -> bool:
        """An evaluation is not left."""
        return False

    @property
    def steps(self) -> int:
        return 1  # objects are looked for at the first boundary

    def withdraw(self) -> None:
        self._signals.stop()

    def close(self, outcome: Outcome, reason: str = "") -> None:
        self._signals.stop()
        self.outcome, self.reason = outcome, reason
