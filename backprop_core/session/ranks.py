"""Sessions of several processes that train together.

The first rank has the session: it decides, saves and talks. All count the same boundaries, and at those they have agreed on
they hear of each other's signals and the others wait for the first, which may ask for their part of a checkpoint. So no
collective is paid for each step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from backprop_core.checkpoints.manifest import CheckpointInfo
from backprop_core.checkpoints.shards import OtherParts, Shards
from backprop_core.checkpoints.store import Loaded
from backprop_core.clock import Clock
from backprop_core.deadline.budget_progress import BudgetProgress, budget_progress
from backprop_core.deadline.decision import BoundaryAction, Decision
from backprop_core.deadline.forecast import Phase
from backprop_core.errors import BackpropError, UsageError
from backprop_core.outcome import Outcome, SaveReason
from backprop_core.ports.ranks import Ranks
from backprop_core.session import attach_rules
from backprop_core.session.find_checkpoint import load_path
from backprop_core.session.join_run import NotJoinedError
from backprop_core.session.rank_parts import for_rank
from backprop_core.session.ranks_error import RankError
from backprop_core.session.session import Session
from backprop_core.session.settings import SessionSettings
from backprop_core.session.shard_writer import ShardWriter, parts_of_others
from backprop_core.session.signal_watch import SignalWatch
from backprop_core.session.training_state import TrainingState

_NOTICE = 1 << 20
"""In place of the number of a signal: a rank cannot go on in the box."""


class SharedTrainingState(TrainingState, Protocol):
    """What a session asks of an adapter whose training runs in several processes.

    Attributes:
        processes: how many there are.
        other_ranks: asks the others for their part of the state, given this one's; `states` puts the answer under
            `rank_parts.RANKS`. None where it is not the time for it.
    """

    processes: int
    other_ranks: Callable[[Mapping[str, object]], list[Any]] | None
    other_shards: Callable[[], OtherParts] | None

    def is_spread(self) -> bool:
        """Whether arrays are trained of which each process holds a part."""
        ...

    def shards(self) -> Shards:
        """What this process holds of them."""
        ...

    def own_part(self) -> dict[str, object]:
        """What of the state is another in each process."""
        ...


def session_among(
    ranks: Ranks | None,
    settings: SessionSettings,
    training_state: SharedTrainingState,
    clock: Clock,
    *,
    leave_s: float = 0.02,
) -> Session:
    """The session of this process, which is alone or one of `ranks`."""
    if ranks is None:
        return Session(settings, training_state, clock=clock, leave_s=leave_s)
    if ranks.rank == 0:
        return LeadingSession(settings, training_state, ranks, clock, leave_s=leave_s)
    return FollowingSession(settings, training_state, ranks, clock)


@dataclass(frozen=True, slots=True)
class Opening:
    """What the first rank tells the others when its session is open.

    Attributes:
        error: why it is not, or empty.
        resumed_from: the checkpoint to go on from.
        until: the deadline, in seconds since 1970.
        directory: where checkpoints go.
        name: of this attempt, where ranks leave word for each other.
        budget_s: seconds of the whole box.
    """

    error: str = ""
    resumed_from: str | None = None
    run_id: str = ""
    until: float = 0.0
    governed: bool = False
    directory: str = ""
    name: str = ""
    budget_s: float = 0.0


@dataclass(slots=True)
class _Countdown:
    """Boundaries until the ranks talk; each rank counts the same."""

    left: int = 0

    def is_over(self, phase: Phase, then: Phase | None) -> bool:
        """Count a boundary. What is longer than a step is not begun without a talk."""
        self.left -= 1
        return self.left <= 0 or phase is not Phase.PLAIN or then is not None


def all_or_none(ranks: Ranks, what: Callable[[], None]) -> None:
    """Do `what` on every rank. Where it fails on one it fails on all: there with its error, elsewhere with its sentence.

    Raises:
        RankError: it failed on another rank.
    """
    try:
        what()
    except Exception as error:
        ranks.agree(described(error))
        raise
    if why := ranks.agree(""):
        raise RankError(why)


def described(error: BaseException) -> str:
    """An error in one sentence, for other ranks."""
    return str(error) if isinstance(error, BackpropError) else f"{type(error).__name__}: {error}"


class LeadingSession(Session):
    """The first rank's."""

    def __init__(
        self,
        settings: SessionSettings,
        training_state: SharedTrainingState,
        ranks: Ranks,
        clock: Clock,
        *,
        leave_s: float = 0.02,
    ) -> None:
        super().__init__(settings, training_state, clock=clock, leave_s=leave_s)
        training_state.processes = ranks.count
        self._training_state = training_state
        self._ranks = ranks
        self._countdown = _Countdown()
        self._waiting_steps = 0
        self._notice = ""
        self._has_told = False
        self._asked = 0
        self._name = ""

    @property
    def copies_are_saves(self) -> bool:
        return self._training_state.is_spread()

    def open(self) -> None:
        try:
            super().open()
        except Exception as error:
            self._ranks.share(Opening(error=str(error) or type(error).__name__))
            raise
        until = self.clock.wall() + self.remaining_s()
        directory = str(self.enrolment.checkpoints.directory)
        self._name = os.urandom(8).hex()
        budget_s = self.deadlines.budget_s
        self._ranks.share(
            Opening("", self.resumed_from, self.run_id, until, self.governed, directory, self._name, budget_s)
        )
        if why := self._ranks.agree(""):
            self.close(Outcome.FAILED, why)
            raise RankError(f"The box was not opened. {why}")
        if self.restored is not None:
            self.restored.states.update(for_rank(self.restored.states, 0, self._ranks.count))

    def together(self, what: Callable[[], None]) -> None:
        all_or_none(self._ranks, what)

    def boundary(self, steps: int, *, phase: Phase = Phase.PLAIN, then: Phase | None = None) -> bool:
        self._waiting_steps += steps
        over = self._countdown.is_over(phase, then)
        self.prove(decides=False)
        if not (
            over or self.recorder is not None
        ):  # for a proof every boundary is one at which the ranks talk
            return False
        ranks, began = self._ranks, self.clock.monotonic()
        number = ranks.hear(int(self.requests.heard or 0))
        talked_s = self.clock.monotonic() - began
        if self._notice or number >= _NOTICE:
            self._has_told = True
            ranks.step_aside(self._notice or "another process cannot continue")
            raise RankError(self._notice or "Another process cannot continue in the box.")
        if number:
            self.requests.hear_of(number)
        try:
            with self._others_give():
                leave = super().boundary(self._waiting_steps, phase=phase, then=then)
        except Exception as error:
            self._has_told = True
            ranks.step_aside(described(error))
            raise
        except BaseException:
            ranks.release(True, 0, Outcome.FAILED)
            raise
        finally:
            self._waiting_steps = 0
            self.wake = 0.0  # every boundary counts
        self._countdown.left = ranks.boundaries_to_next_talk(self, talked_s)
        outcome = Outcome.RUNNING if self.leaving is None else self.leaving.outcome
        ranks.release(leave, self._countdown.left, outcome)
        return leave

    @contextmanager
    def _others_give(self) -> Iterator[None]:
        """Inside, the others wait, and give their part of the state when it is asked for."""
        self._training_state.other_ranks, self._training_state.other_shards = self._ask, self._other_shards
        try:
            yield
        finally:
            self._training_state.other_ranks = self._training_state.other_shards = None

    def complete(self, steps: int) -> None:
        self._ranks.hear(0)
        try:
            with self._others_give():
                super().complete(self._waiting_steps + steps)
        finally:
            self._ranks.release(True, 0, Outcome.COMPLETED)

    def give_notice(self, why: str) -> bool:
        self._notice = self._notice or why
        return not self._has_told

    def _ask(self, own: Mapping[str, object]) -> list[Any]:
        self._ranks.ask_for_states()
        self._asked += 1
        return self._ranks.gather(own)

    def _other_shards(self) -> OtherParts:
        """Waits for what the others write of the checkpoint that they were asked for last."""
        number = self._asked
        return lambda: parts_of_others(self._ranks, self._name, number, self.clock, self.remaining_s)

    def look(self) -> bool:
        """An evaluation is not left: not every rank may be in one."""
        return False

    @property
    def may_leave_by_itself(self) -> bool:
        return False


class FollowingSession(Session):
    """Another rank's: it hears signals, gives its part of a save, and leaves when it is told to."""

    def __init__(
        self, settings: SessionSettings, training_state: SharedTrainingState, ranks: Ranks, clock: Clock
    ) -> None:
        super().__init__(settings, training_state, clock=clock, silent=True)
        training_state.processes = ranks.count
        self._training_state = training_state
        self._ranks = ranks
        self._countdown = _Countdown()
        self._opening = Opening()
        self._shares: BudgetProgress | None = None
        self._notice = ""
        self._writer: ShardWriter | None = None
        self._asked = 0
        self._signals = SignalWatch(clock.monotonic, lambda: None)

    def open(self) -> None:
        """Hear what the first rank has found, and load the same checkpoint, verified here as well.

        Raises:
            UsageError, or NotJoinedError if nobody asked for a session: the first rank could not open its own.
            CheckpointError: the checkpoint cannot be read from this rank.
            RankError: it cannot be read from another one.
        """
        attach_rules.session_opens()
        self._opening = self._ranks.share(None)
        if self._opening.error:
            if self.settings.attached:
                raise NotJoinedError(self._opening.error)
            raise UsageError(f"The first rank could not open the box: {self._opening.error}")
        all_or_none(self._ranks, self._load)
        self._signals.start()

    def _load(self) -> None:
        if self._opening.resumed_from is not None:
            loaded = load_path(self._opening.resumed_from, self.training_state.translators, self.messages.say)
            states = for_rank(loaded.states, self._ranks.rank, self._ranks.count)
            self.restored = Loaded(loaded.info, states)
            self._pass_over_what_is_completed()

    @property
    def run_id(self) -> str:
        return self._opening.run_id

    @property
    def governed(self) -> bool:
        return self._opening.governed

    @property
    def checkpoint(self) -> CheckpointInfo | None:
        """The one resumed from: of newer ones the first rank knows."""
        return None if self.restored is None else self.restored.info

    def remaining_s(self) -> float:
        return max(0.0, self._opening.until - self.clock.wall())

    def progress(self) -> float:
        """As far as this rank knows: the first one keeps a reserve besides."""
        left_s = self.remaining_s()
        if self._shares is None:
            budget_s = max(self._opening.budget_s, left_s)
            self._shares = budget_progress(budget_s, self.settings.environ, self.clock)
        return self._shares.share(self.clock.monotonic(), left_s)

    def weigh(self) -> None:
        """The first rank does."""

    def together(self, what: Callable[[], None]) -> None:
        all_or_none(self._ranks, what)

    def boundary(self, steps: int, *, phase: Phase = Phase.PLAIN, then: Phase | None = None) -> bool:
        over = self._countdown.is_over(phase, then)
        self.prove(decides=False)
        if not (over or self.recorder is not None):
            return False
        self._ranks.hear(_NOTICE if self._notice else int(self._signals.received or 0))
        leave, self._countdown.left, outcome = self._ranks.follow(self._give)
        if leave:
            self.leaving = Decision(
                BoundaryAction.STOP, SaveReason.DEADLINE, outcome, "the first rank says so"
            )
        return leave

    def _give(self) -> dict[str, object]:
        """This rank's part of a checkpoint; what it holds of spread arrays it writes itself, in a thread."""
        self._asked += 1
        part, shards = self._training_state.own_part(), self._training_state.shards()
        if self._training_state.is_spread():
            if self._writer is None:
                directory = Path(self._opening.directory)
                translators = self.training_state.translators
                self._writer = ShardWriter(directory, self._opening.name, self._ranks, translators)
            self._writer.write(self._asked, shards)
        return part

    def look(self) -> bool:
        """An evaluation is not left."""
        return False

    @property
    def may_leave_by_itself(self) -> bool:
        return False

    @property
    def steps(self) -> int:
        return 1  # objects are looked for at the first boundary

    def give_notice(self, why: str) -> bool:
        self._notice = self._notice or why
        return True

    def withdraw(self) -> None:
        self._signals.stop()

    def complete(self, steps: int) -> None:
        self._ranks.hear(0)
        self._ranks.follow(self._give)
        self.close(Outcome.COMPLETED)

    def close(self, outcome: Outcome, reason: str = "") -> None:
        self._signals.stop()
        if self._writer is not None:
            self._writer.wait()
        self.outcome, self.reason = outcome, reason
        self._signals.pass_on()
