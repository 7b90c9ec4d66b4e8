"""The session of the first of several processes that train together: it decides, saves and talks."""

from __future__ import annotations

import os
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
from backprop_core.session.quiet_talk import is_quiet
from backprop_core.session.rank_copies import NO_COPIES, TALKS_TO_JOIN
from backprop_core.session.rank_parts import ALONE, for_rank
from backprop_core.session.rank_patience import Patience, until_it_opens
from backprop_core.session.rank_talk import (
    NOTICE,
    Countdown,
    Opening,
    SharedTrainingState,
    opening_of,
    pause_key,
)
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
from backprop_core.session.talk_times import TalkTimes


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
        self._countdown = Countdown()
        self._waiting_steps = 0
        self._waits_for_parts = True
        self._times = TalkTimes()
        self._others_came = True  # they wait for this rank; false only in a talk, until they have come to it
        self.group = os.urandom(8).hex()
        self._cannot_copy = 0

    @property
    def copies_are_saves(self) -> bool:
        return self._training_state.is_spread()

    @property
    def boundaries_to_next_talk(self) -> int:
        """The same number on all ranks."""
        return self._countdown.left

    @property
    def mean_step_s(self) -> float:
        """Of the steps between the last two talks; 0 while it is not known."""
        return self._times.mean_step_s

    def open(self) -> None:
        self._ranks.wait_while(until_it_opens(self.settings, self.clock).lasts)
        try:
            super().open()
        except Exception as error:
            self._ranks.share(Opening(error=str(error) or type(error).__name__))
            raise
        self._ranks.wait_while(Patience(self._is_past).lasts)
        self.requests.tell_pause = self._tell_pause
        try:
            self._ranks.share(opening_of(self))
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
        self._times.passes(self.clock.monotonic())

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
        self._times.begins(self.clock.monotonic(), self._waiting_steps)
        quiet = is_quiet(self, phase, then, self._times.longest_s)
        self._others_came = False
        try:
            if not quiet:
                self._come_together()
            if self._times.longest_s:
                self.pacer.longest_between_s = self._times.longest_s + self._times.waited_s
            with self._others_give():
                leave = super().boundary(self._waiting_steps, phase=phase, then=then)
                self._times.waited_s = 0.0
                if quiet and not leave:
                    late = not self._others_came
                    self._countdown.left = apart(self._times.talk_s())
                    if late and self._come_together(self._last_word(leave=False)):
                        self._times.was_quiet(self.clock.monotonic())
                        return False
                    if late or self.requests.pending:  # another rank has had a signal
                        leave = super().boundary(0, phase=phase, then=then)
                self._wait_for_others()
        except (LostRankError, ToldAsideError):
            raise
        except BaseException as error:
            with suppress(LostRankError, ToldAsideError):
                self._wait_for_others()
                if isinstance(error, meant) or not isinstance(error, Exception):
                    self._ranks.release(LastWord(True, 0, Outcome.FAILED))
                else:
                    self._ranks.step_aside(described(error))
            raise
        finally:
            self._others_came = True
            self._waiting_steps = 0
            self._times.ends(self.clock.monotonic())
            self.wake = 0.0  # every boundary counts
        self._countdown.left = apart(self._times.talk_s())
        with suppress(*[LostRankError] * leave):  # all is saved, and this rank leaves, whoever hears it
            self._ranks.release(self._last_word(leave=leave))
        self._times.ends(self.clock.monotonic())
        return leave

    def _take_in(self, now: float) -> float:
        """As a session alone. What has come may be something that the others have to wait for."""
        held_s = super()._take_in(now)
        if not (self._others_came or is_quiet(self, Phase.PLAIN, None, self._times.longest_s)):
            self._come_together()
            held_s += super()._take_in(self.clock.monotonic())
        return held_s

    def _wait_for_others(self) -> None:
        if not self._others_came:
            self._come_together()

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
        self._times.waited_s += waited_s
        if ranks.settled is not None:
            return True
        self._times.took(2 * waited_s)  # the last word takes as long
        if number >= NOTICE:
            ranks.step_aside("another process cannot continue")
            raise ToldAsideError("Another process cannot continue in the box.")
        if number:
            self.requests.hear_of(number)
        return False

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
            if self.governed and self._cannot_copy == TALKS_TO_JOIN:
                self.messages.say_once(NO_COPIES, "warning")
            yield False
            return
        self._wait_for_others()
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
            return replace(facts, extra={**facts.extra, ALONE: True})
        return facts

    def suits(self, facts: CheckpointFacts) -> bool:
        """What the first process saved when it ended, the others being gone or busy, is the end of its own alone."""
        if facts.extra.get(ALONE) is not True:
            return True
        self.messages.say_once(
            f"The checkpoint of step {facts.step} holds the final state of the first process alone, so all of them continue "
            "from the one before it."
        )
        return False

    def _ask(self, own: Mapping[str, object]) -> list[Any]:
        self._wait_for_others()
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
