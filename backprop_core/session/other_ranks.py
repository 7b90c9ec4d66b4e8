"""The session of a process that trains with a first one: it hears signals, and does what that one says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from backprop_core.checkpoints.manifest import CheckpointInfo
from backprop_core.checkpoints.store import Loaded
from backprop_core.clock import Clock
from backprop_core.deadline.budget_progress import BudgetProgress, budget_progress
from backprop_core.deadline.decision import BoundaryAction, Decision
from backprop_core.deadline.forecast import Phase
from backprop_core.errors import UsageError
from backprop_core.outcome import Outcome, SaveReason
from backprop_core.ports.ranks import Ranks
from backprop_core.session import attach_rules
from backprop_core.session.find_checkpoint import load_path
from backprop_core.session.join_run import NotJoinedError
from backprop_core.session.rank_copies import RankCopies
from backprop_core.session.rank_parts import for_rank
from backprop_core.session.rank_patience import Patience, until_it_opens
from backprop_core.session.rank_talk import Countdown, Opening, SharedTrainingState, pause_key
from backprop_core.session.ranks_error import LateRankError, RankError, all_or_none
from backprop_core.session.session import Session
from backprop_core.session.settings import SessionSettings
from backprop_core.session.shard_writer import ShardWriter
from backprop_core.session.signal_watch import SignalWatch

_MAY_SAVE_S = 30.0
"""Beyond the deadline a first rank whose disk is slow may still ask for parts of the last checkpoint."""


class FollowingSession(Session):
    """Another rank's: it hears signals, gives its part of a save, and leaves when it is told to.

    Attributes:
        boundaries_to_next_talk: as all ranks have heard at the last one.
        signals: those that have come to this process.
    """

    def __init__(
        self, settings: SessionSettings, training_state: SharedTrainingState, ranks: Ranks, clock: Clock
    ) -> None:
        super().__init__(settings, training_state, clock=clock, silent=True)
        training_state.processes = ranks.count
        self._training_state = training_state
        self._ranks = ranks
        self._countdown = Countdown()
        self._opening = Opening()
        self._ends_at = 0.0
        self._shares: BudgetProgress | None = None
        self._writer: ShardWriter | None = None
        self._copies: RankCopies | None = None
        self._asked = self._talks = 0
        self.signals = SignalWatch(clock.monotonic, lambda: None)

    @property
    def boundaries_to_next_talk(self) -> int:
        return self._countdown.left

    def open(self) -> None:
        """Hear what the first rank has found, and load the same checkpoint, verified here as well.

        Raises:
            UsageError, or NotJoinedError if nobody asked for a session: the first rank could not open its own.
            CheckpointError: the checkpoint cannot be read from this rank.
            RankError: it cannot be read from another one.
        """
        attach_rules.session_opens(self)
        self._ranks.wait_while(until_it_opens(self.settings, self.clock).lasts)
        self._opening = self._ranks.share(None)
        if self._opening.error:
            if self.settings.attached:
                raise NotJoinedError(self._opening.error)
            raise UsageError(f"The first rank could not open the box: {self._opening.error}")
        self._ends_at = self.clock.monotonic() + self._opening.left_s
        self._ranks.wait_while(Patience(self._is_past).lasts)
        all_or_none(self._ranks, self._load)
        self.signals.start()

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
        """As the first rank has said last, which knows of pauses and extensions."""
        return max(0.0, self._ends_at - self.clock.monotonic())

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
        return self.talk()

    def talk(self) -> bool:
        """Take part in what the first rank does at this boundary, until it lets go. True: leave the loop."""
        try:
            self._ranks.hear(int(self.signals.received or 0), self._sealed())
            word = self._ranks.settled or self._ranks.follow(self._give, self._copy)
        except LateRankError as error:
            return self._leave_without(error)
        self._countdown.left = word.boundaries
        self._ends_at = self.clock.monotonic() + word.remaining_s
        if word.leave:
            self._leaves(word.outcome, "the first rank says so")
        return word.leave

    def _is_past(self) -> bool:
        """Whether all should be over: the deadline, and what a first rank may take to save behind it."""
        now = self.clock.monotonic()
        if now >= self._ends_at and self._ranks.posted(pause_key(self._opening.name)):
            self._ends_at = now  # the deadline waits meanwhile
        behind_s = max(self.settings.grace_s, _MAY_SAVE_S)
        ends_at = self._ends_at + behind_s
        if self.signals.received is not None:
            ends_at = min(ends_at, self.signals.received_at + behind_s)
        return now >= ends_at

    def _leave_without(self, error: LateRankError) -> bool:
        """Time is over, and another rank is not here: nobody waits for ever."""
        attach_rules.waits_no_longer(self._ranks.rank, error)
        self._leaves(Outcome.TIMEBOXED, str(error))
        return True

    def _leaves(self, outcome: Outcome, why: str) -> None:
        self.leaving = Decision(BoundaryAction.STOP, SaveReason.DEADLINE, outcome, why)

    def _give(self) -> dict[str, object]:
        """This rank's part of a checkpoint; what it holds of spread arrays it writes itself, in a thread."""
        self._asked += 1
        part, shards = self._training_state.own_part(), self._training_state.shards()
        if self._training_state.is_spread():
            self._make_room_for_copies()
            if self._writer is None:
                directory = Path(self._opening.directory)
                translators = self.training_state.translators
                self._writer = ShardWriter(
                    directory, self._opening.name, self._ranks, translators, self.clock
                )
            self._writer.write(self._asked, shards)
        return part

    def _sealed(self) -> int:
        """The newest copy that is whole; see `RankCopies`. Where nothing is spread the first rank's copies are all."""
        self._talks += 1
        if (
            self._talks & self._talks - 1 == 0
        ):  # the 1st, 2nd, 4th, 8th: a look at all parameters takes its time
            self._make_room_for_copies()
        return -1 if self._copies is None else self._copies.sealed

    def _make_room_for_copies(self) -> None:
        """Hand memory for copies to the governor, once it is known that arrays are spread."""
        if self._copies is None and self.governed and self._training_state.is_spread():
            translators = self.training_state.translators
            self._copies = RankCopies(self._opening, self._ranks, translators, self.clock)

    def _copy(self) -> dict[str, object]:
        """This rank's part of a copy in memory; its blocks of spread arrays stay in memory of its own."""
        self._asked += 1
        part, shards = self._training_state.own_part(), self._training_state.shards()
        if self._copies is not None:
            self._copies.copy(self._asked, self._training_state.position().step, shards)
        return part

    def _close_copies(self, *, leave: bool) -> None:
        if self._copies is not None:
            self._copies.close(leave=leave)

    def look(self) -> bool:
        """An evaluation is not left."""
        return False

    @property
    def may_leave_by_itself(self) -> bool:
        return False

    @property
    def steps(self) -> int:
        return 1  # objects are looked for at the first boundary

    def withdraw(self, why: str = "") -> None:
        self._ranks.withdraw(why or "it continues without the box")
        self._close_copies(leave=False)
        self.signals.stop()

    def complete(self, steps: int) -> None:
        with suppress(RankError):  # the first one says what it means for the last checkpoint
            self._ranks.hear(0)
            if (self._ranks.settled or self._ranks.follow(self._give)).leave:
                self._close_copies(leave=False)
            else:
                self._ranks.withdraw("its training ended before that of the others")
        self.close(Outcome.COMPLETED)

    def close(self, outcome: Outcome, reason: str = "") -> None:
        if outcome is not Outcome.COMPLETED and self.leaving is None:
            self._ranks.withdraw(reason or "its training has ended")
        self.signals.stop()
        if self._writer is not None:
            self._writer.wait()
        self._close_copies(leave=True)  # the first rank's tell whether they are wanted
        self.outcome, self.reason = outcome, reason
        self.signals.pass_on()
