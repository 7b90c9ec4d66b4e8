"""The session of the first of several processes that train together: it decides, saves and talks."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from backprop_core.checkpoints.manifest import CheckpointFacts
from backprop_core.checkpoints.shards import OtherParts
from backprop_core.checkpoints.survivor_memory import CopyOfRanks
from backprop_core.clock import Clock
from backprop_core.deadline.decision import Leave
from backprop_core.deadline.forecast import Phase
from backprop_core.outcome import Outcome, SaveReason
from backprop_core.ports.ranks import LastWord, Ranks
from backprop_core.session.rank_parts import for_rank
from backprop_core.session.rank_patience import Patience, until_it_opens
from backprop_core.session.rank_talk import NOTICE, Countdown, Opening, SharedTrainingState, pause_key
from backprop_core.session.ranks_error import (
    LateRankError,
    LostRankError,
    RankError,
    ToldAsideError,
    all_or_none,
    described,
)
from backprop_core.session.session import Session
from backprop_core.session.settings import SessionSettings
from backprop_core.session.shard_writer import parts_of_others

_TALKS_TO_JOIN = 20
"""So often a rank may say that it has no memory for copies: it takes it when it first knows that arrays are spread."""
_TALKS_JUDGED = 5
_FAR_STEPS = 4
"""With room for fewer steps before the deadline the others are waited for first, and the decision is taken after that."""
_QUIET_AFTER_STEPS = 3
"""By then memory for copies has been taken, which asks for the state."""
_ALONE = "of_first_process_alone"
"""A fact of a checkpoint that lacks what is another in each process: of a script whose processes end one after the other."""
_NO_COPIES = (
    "A process of this training has no memory that outlives it (it may run on another machine), so a sudden death costs "
    "everything since the last checkpoint."
)


class LeadingSession(Session):
    """The first rank's.

    Attributes:
        boundaries_to_next_talk: the same number on all ranks.
        mean_step_s: of the steps between the last two talks; 0 while it is not known.
    """

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
        self._countdown = Countdown()
        self._waiting_steps = 0
        self._waits_for_parts = True
        self.mean_step_s = 0.0
        self._talked_at: float | None = None
        self._passed_at: float | None = None
        self._longest_s = self._waited_s = 0.0
        self._others_came = True  # they wait for this rank; false only in a talk, until they have come to it
        self._talks_s: deque[float] = deque(maxlen=_TALKS_JUDGED)
        self.group = os.urandom(8).hex()
        self._cannot_copy = 0

    @property
    def copies_are_saves(self) -> bool:
        return self._training_state.is_spread()

    @property
    def boundaries_to_next_talk(self) -> int:
        return self._countdown.left

    def open(self) -> None:
        self._ranks.wait_while(until_it_opens(self.settings, self.clock).lasts)
        try:
            super().open()
        except Exception as error:
            self._ranks.share(Opening(error=str(error) or type(error).__name__))
            raise
        self._ranks.wait_while(Patience(self._is_past).lasts)
        self.requests.tell_pause = self._tell_pause
        directory = str(self.enrolment.checkpoints.directory)
        opening = Opening(
            "",
            self.resumed_from,
            self.run_id,
            self.remaining_s(),
            self.governed,
            directory,
            self.group,
            self.deadlines.budget_s,
            self.enrolment.attempt.number,
            str(self.enrolment.attempt.directory),
        )
        try:
            self._ranks.share(opening)
            if why := self._ranks.agree(""):
                raise RankError(f"The box was not opened. {why}")
        except RankError as error:
            self.close(Outcome.FAILED, str(error))
            raise
        if self.restored is not None:
            self.restored.states.update(for_rank(self.restored.states, 0, self._ranks.count))

    def _is_past(self) -> bool:
        """While others are waited for, signals and requests are heard: they move the deadline."""
        self._obey(self.clock.monotonic())
        return self.remaining_s() <= 0

    def _tell_pause(self, paused: bool) -> None:
        """The others wait for this rank meanwhile, and the deadline that they know passes."""
        with suppress(Exception):  # the board is gone, and with it whoever would read it
            self._ranks.post(pause_key(self.group), "paused" if paused else "")

    def together(self, what: Callable[[], None]) -> None:
        all_or_none(self._ranks, what)

    def passes(self) -> None:
        """A boundary, whether the ranks talk at it or not: how long the step before it took is known here alone."""
        now = self.clock.monotonic()
        if self._passed_at is not None:
            self._longest_s = max(self._longest_s, now - self._passed_at)
        self._passed_at = now

    def boundary(self, steps: int, *, phase: Phase = Phase.PLAIN, then: Phase | None = None) -> bool:
        self.passes()
        self._waiting_steps += steps
        over = self._countdown.is_over(phase, then)
        self.prove(decides=False)
        if not (
            over or self.recorder is not None
        ):  # for a proof every boundary is one at which the ranks talk
            return False
        return self.talk(phase, then, lambda talk_s: self._ranks.boundaries_to_next_talk(self, talk_s))

    def talk(
        self,
        phase: Phase,
        then: Phase | None,
        apart: Callable[[float], int],
        *,
        steps: int = 0,
        meant: tuple[type[Exception], ...] = (),
    ) -> bool:
        """A boundary at which the others wait for this rank. True: all leave the loop, everything is saved.

        Args:
            apart: boundaries to the next talk, given the seconds that one takes.
            steps: boundaries since the last call, beside those that `boundary` was told of.
            meant: errors that end the training. All ranks leave it then; by another error they step aside.
        """
        self._waiting_steps += steps
        try:
            return self._talk(phase, then, apart, meant)
        except LateRankError as error:
            return self._leave_without(error)

    def _talk(
        self,
        phase: Phase,
        then: Phase | None,
        apart: Callable[[float], int],
        meant: tuple[type[Exception], ...],
    ) -> bool:
        began = self.clock.monotonic()
        if self._talked_at is not None and self._waiting_steps:
            self.mean_step_s = (began - self._talked_at) / self._waiting_steps
        self._others_came = False
        try:
            if not self._is_quiet(phase, then):
                self._come_together()
            if self._longest_s:
                self.pacer.longest_between_s = self._longest_s + self._waited_s
            with self._others_give():
                leave = super().boundary(self._waiting_steps, phase=phase, then=then)
                self._waited_s = 0.0
                if not (leave or self._others_came):
                    self._countdown.left = apart(self._talk_s())
                    if self._come_together(self._last_word(leave=False)):
                        self._talks_s.append(self.clock.monotonic() - began)
                        return False
                    leave = super().boundary(0, phase=phase, then=then)  # another rank has had a signal
                elif not self._others_came:
                    self._come_together()
        except (LostRankError, ToldAsideError):
            raise
        except BaseException as error:
            with suppress(LostRankError, ToldAsideError):
                if not self._others_came:
                    self._come_together()
                if isinstance(error, meant) or not isinstance(error, Exception):
                    self._ranks.release(LastWord(True, 0, Outcome.FAILED))
                else:
                    self._ranks.step_aside(described(error))
            raise
        finally:
            self._others_came = True
            self._waiting_steps = 0
            self._longest_s = 0.0
            self._talked_at = self._passed_at = self.clock.monotonic()
            self.wake = 0.0  # every boundary counts
        self._countdown.left = apart(self._talk_s())
        with suppress(*[LostRankError] * leave):  # all is saved, and this rank leaves, whoever hears it
            self._ranks.release(self._last_word(leave=leave))
        self._talked_at = self._passed_at = self.clock.monotonic()
        return leave

    def _is_quiet(self, phase: Phase, then: Phase | None) -> bool:
        """Whether nothing is due at this boundary that the others have to wait for, and none will be for some steps."""
        requests, pacer = self.requests, self.pacer
        if phase is not Phase.PLAIN or then is not None or pacer.phase is not Phase.PLAIN:
            return False
        if requests.pending or requests.leave or self.leaving or self.recorder is not None:
            return False
        spare_s = self.remaining_s() - pacer.save_s() - pacer.exit_s()
        far = spare_s >= _FAR_STEPS * max(self.forecast.longest_step_s(), self._longest_s)
        return far and pacer.steps >= _QUIET_AFTER_STEPS and self.conduct.is_quiet()

    def _take_in(self, now: float) -> float:
        """As a session alone. What has come may be something that the others have to wait for."""
        held_s = super()._take_in(now)
        if not (self._others_came or self._is_quiet(Phase.PLAIN, None)):
            self._come_together()
            held_s += super()._take_in(self.clock.monotonic())
        return held_s

    def _come_together(self, word: LastWord | None = None) -> bool:
        """Wait for the others at this boundary. True: `word` holds, and they have gone on; else they wait for this rank.

        Raises:
            ToldAsideError: one of them takes no further part.
        """
        ranks, survivor, began = self._ranks, self.saver.survivor, self.clock.monotonic()
        newest = -1 if survivor is None else survivor.newest
        number = ranks.hear(int(self.requests.heard or 0), newest, word)
        self._others_came = True
        if survivor is not None:
            survivor.spared = max(0, ranks.sealed_by_all)
        waited_s = self.clock.monotonic() - began
        self._waited_s += waited_s
        if ranks.settled is not None:
            return True
        self._talks_s.append(2 * waited_s)  # the last word takes as long
        if number >= NOTICE:
            ranks.step_aside("another process cannot continue")
            raise ToldAsideError("Another process cannot continue in the box.")
        if number:
            self.requests.hear_of(number)
        return False

    def _talk_s(self) -> float:
        """What a talk takes, seconds: the median of the last ones, since one of them may have waited for a slow rank."""
        judged = sorted(self._talks_s)
        return judged[len(judged) // 2] if judged else 0.0

    def _last_word(self, *, leave: bool) -> LastWord:
        outcome = Outcome.RUNNING if self.leaving is None else self.leaving.outcome
        return LastWord(leave, self._countdown.left, outcome, self.remaining_s())

    def _leave_without(self, error: LateRankError) -> bool:
        """Time is over, and another rank is not here: nothing can be saved any more, and nobody waits for ever."""
        self._waits_for_parts = False
        self.requests.leave = self.requests.leave or Leave(Outcome.TIMEBOXED, str(error), at_once=True)
        self.messages.say(f"{error} {self._kept()} This process leaves the box.", "warning")
        self.leave_at_once(str(error), save=False)
        return True

    def _kept(self) -> str:
        self.hands.collect()
        newest = self.checkpoint
        return "There is no checkpoint." if newest is None else f"The last checkpoint is {newest.address}."

    @contextmanager
    def _others_give(self) -> Iterator[None]:
        """Inside, the others wait, and give their part of the state when it is asked for."""
        self._training_state.other_ranks, self._training_state.other_shards = self._ask, self._other_shards
        try:
            yield
        finally:
            self._training_state.other_ranks = self._training_state.other_shards = None

    def complete(self, steps: int) -> None:
        try:
            self._ranks.hear(0)
            try:
                with self._others_give():
                    super().complete(self._waiting_steps + steps)
            finally:
                with suppress(LostRankError):
                    self._ranks.release(LastWord(True, 0, Outcome.COMPLETED, self.remaining_s()))
        except LostRankError as error:  # its part of the final state is missing
            self.messages.say(f"{error} The final state is not saved. {self._kept()}", "warning")
            self.close(Outcome.FAILED, str(error))

    @contextmanager
    def copies_of_all_ranks(self) -> Iterator[bool]:
        if self._ranks.sealed_by_all < 0:
            self._cannot_copy += 1
            if self.governed and self._cannot_copy == _TALKS_TO_JOIN:
                self.messages.say_once(_NO_COPIES, "warning")
            yield False
            return
        if not self._others_came:
            self._come_together()
        self._ranks.copies = True
        try:
            yield True
        finally:
            self._ranks.copies = False

    def checkpoint_facts(self, reason: SaveReason) -> CheckpointFacts:
        facts = super().checkpoint_facts(reason)
        if self._ranks.copies:
            return CopyOfRanks(self.group, self._ranks.asked, 0, self._ranks.count).marked(facts)
        if self._training_state.other_ranks is None:
            return replace(facts, extra={**facts.extra, _ALONE: True})
        return facts

    def suits(self, facts: CheckpointFacts) -> bool:
        """What the first process saved when it ended, the others being gone or busy, is the end of its own alone."""
        if facts.extra.get(_ALONE) is not True:
            return True
        self.messages.say_once(
            f"The checkpoint of step {facts.step} holds the final state of the first process alone, so all of them continue "
            "from the one before it."
        )
        return False

    def _ask(self, own: Mapping[str, object]) -> list[Any]:
        if not self._others_came:
            self._come_together()
        self._ranks.ask_for_states()
        return self._ranks.gather(own)

    def _other_shards(self) -> OtherParts:
        """Waits for what the others write of the checkpoint that they were asked for last."""
        number = self._ranks.asked
        return lambda: parts_of_others(
            self._ranks, self.group, number, self.clock, lambda: not self._waits_for_parts
        )

    def withdraw(self, why: str = "") -> None:
        self._waits_for_parts = False
        self._ranks.withdraw(why or "it continues without the box")
        super().withdraw(why)

    def close(self, outcome: Outcome, reason: str = "") -> None:
        """As a session alone; a training that fails does not wait for parts of a checkpoint that may never come."""
        if outcome is not Outcome.COMPLETED and self.leaving is None:
            self._waits_for_parts = False
            self._ranks.withdraw(reason or "its training has ended")
        super().close(outcome, reason)

    def save_final_state(self) -> None:
        """As a session alone; processes that end one by one give no parts of what is spread over them."""
        if self.copies_are_saves and self._training_state.other_shards is None:
            self.messages.say(
                "The final state is not saved: it is spread over processes that end one after the other. The script's own "
                "files hold what it has saved itself."
            )
        else:
            super().save_final_state()

    def look(self) -> bool:
        """An evaluation is not left: not every rank may be in one."""
        return False

    @property
    def may_leave_by_itself(self) -> bool:
        return False
