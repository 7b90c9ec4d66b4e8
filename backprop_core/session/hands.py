"""What a session does when `conduct.py` has decided: real saves, a real copy for the guard, and a word on each."""

from __future__ import annotations

from collections.abc import Mapping

from backprop_core.checkpoints.manifest import CheckpointFacts, CheckpointInfo
from backprop_core.checkpoints.unchanged import ChangedMeanwhileError
from backprop_core.deadline.budget import Limit
from backprop_core.deadline.decision import Decision
from backprop_core.deadline.pacing import Asks
from backprop_core.errors import BackpropError, CheckpointError, UnsavableStateError
from backprop_core.events.kinds import CheckpointFailed, CheckpointSaved, Stopping
from backprop_core.outcome import SaveReason
from backprop_core.session.attempt import RunningAttempt
from backprop_core.session.hang_guard import Guard
from backprop_core.session.report_lines import Reporter
from backprop_core.session.saver import NoRoomForCopyError


class SessionHands:
    """The `Hands` of one session."""

    def __init__(self, session: RunningAttempt, guard: Guard, reporter: Reporter) -> None:
        self._session, self._guard, self._reporter = session, guard, reporter

    # -- what a decision needs to know -------------------------------------------------------------------------

    @property
    def deadline(self) -> Limit:
        return self._session.deadlines.earliest

    @property
    def copy_is_saved(self) -> bool:
        return self._guard.saved_copy

    def now(self) -> float:
        return self._session.clock.monotonic()

    def asks(self) -> Asks:
        session = self._session
        return Asks(
            leave=session.requests.leave,
            commit_first=session.requests.commit_first,
            save=session.requests.save_asked,
            window_s=session.training_state.window_rest_s(session.forecast.longest_step_s()),
            save_in_flight=session.saver.busy,
        )

    # -- what it can have done ---------------------------------------------------------------------------------

    def wait(self) -> None:
        self._session.saver.wait()
        self.collect()

    def save_behind(self, reason: SaveReason) -> bool:
        session = self._session
        self._guard.give_up_copy()
        if session.saver.no_room:
            return self.save_now(reason)
        try:
            begun = session.saver.save_behind(*self._state(reason))
        except NoRoomForCopyError:
            return self.save_now(reason)
        except CheckpointError as error:
            self._failed(error)
            return False
        if begun:
            session.pacer.read_behind_s = session.saver.read_behind_s
            session.requests.save_asked = False
            session.name_unkept()
        return begun

    def save_now(self, reason: SaveReason) -> bool:
        session = self._session
        try:
            info = session.saver.save_now(*self._state(reason))
        except CheckpointError as error:
            self._failed(error)
            saved = False
        else:
            self._saved(info)
            session.name_unkept()
            session.requests.save_asked = session.requests.commit_first = False
            saved = True
        self.collect()
        return saved

    @property
    def may_copy(self) -> bool:
        return self._session.saver.may_copy

    def copy(self, *, whole: bool) -> float | None:
        session = self._session
        began = session.clock.monotonic()
        try:
            if not session.copies_are_saves:
                self._guard.keep(session.saver, *self._state(SaveReason.DEADLINE), whole=whole)
            elif not self._copy_on_all_ranks():
                return None
        except CheckpointError as error:
            if not session.saver.no_room:  # else its own note says more
                session.messages.say_once(f"The hang guard has no copy of the state: {error}", "warning")
            session.pacer.survives = session.saver.survivor is not None
            return None
        session.pacer.survives = session.saver.survivor is not None
        session.name_unkept(insist=False)
        return max(
            session.saver.copy_s, session.clock.monotonic() - began
        )  # to find what changed takes time, too

    def _copy_on_all_ranks(self) -> bool:
        """Every rank copies what it holds, for a sudden death; the guard has no use for a part. False if one cannot."""
        session = self._session
        if session.saver.survivor is None:
            return False
        with session.copies_of_all_ranks() as possible:
            if possible:
                session.saver.copied(*self._state(SaveReason.DEADLINE))
        return possible

    def _state(self, reason: SaveReason) -> tuple[Mapping[str, object], CheckpointFacts]:
        """All that a checkpoint holds now.

        Raises:
            UnsavableStateError: what the script trains, or its framework, failed while it was asked for its state: that
                costs this checkpoint, and no training.
        """
        session = self._session
        began = self.now()
        try:
            states = session.training_state.states(), session.checkpoint_facts(reason)
            session.saver.gathered(self.now() - began)
            return states
        except BackpropError:
            raise
        except Exception as error:
            what = f"The state could not be read: {type(error).__name__}: {error}."
            raise UnsavableStateError(what) from error

    def reserve(self) -> None:
        """Take the memory that copies of the state need, in a thread of its own."""
        session = self._session
        if session.copies_are_saves:
            return
        try:
            session.saver.reserve(self._state(SaveReason.PERIODIC)[0])
        except CheckpointError as error:
            session.messages.say_once(f"The state cannot be saved as it is now: {error}", "warning")

    def arm(self, alarm_at: float) -> None:
        self._guard.arm(alarm_at)

    def stopping(self, verdict: Decision) -> None:
        session = self._session
        session.messages.event(Stopping(verdict.reason.value, verdict.text))
        session.requests.commit_first = False
        self._guard.stand_down()

    def warn(self, text: str) -> None:
        self._session.messages.say_once(text, "warning")

    # -- what came of it ---------------------------------------------------------------------------------------

    def collect(self) -> None:
        """Take in what the writer thread has finished."""
        while self._session.saver.notes:
            self._session.messages.say_once(self._session.saver.notes.pop(0), "warning")
        survivor = self._session.saver.survivor
        if survivor is not None and survivor.discarded:
            survivor.discarded = False
            self._session.pacer.copy_soon()
        if self._session.saver.economize(self._guard.give_up_copy):
            self._session.pacer.copy_later(self.now())
        for result in self._session.saver.finished():
            if isinstance(result, CheckpointInfo):
                self._saved(result)
            elif isinstance(result, ChangedMeanwhileError):
                self._session.pacer.repeat()
                self._session.requests.save_asked |= result.reason is SaveReason.REQUESTED
            else:
                self._failed(result)

    def _saved(self, info: CheckpointInfo) -> None:
        session = self._session
        ends = info.facts.reason not in (SaveReason.PERIODIC, SaveReason.REQUESTED)
        if not ends or session.requests.commit_first:
            session.enrolment.remember(info.address)
        saved = CheckpointSaved(
            path=info.address,
            step=info.step,
            reason=info.facts.reason.value,
            nbytes=info.nbytes,
            seconds=info.save_s,
        )
        session.messages.event(saved)

    def _failed(self, error: CheckpointError) -> None:
        session = self._session
        session.pacer.failed(self.now())
        session.messages.event(CheckpointFailed(str(error)))
        older, kept = session.checkpoint, "There is no older checkpoint."
        if older is not None:
            kept = f"The newest good checkpoint is {older.address},{self._reporter.age(older)}."
        session.messages.say(f"{error} {kept}", "warning")
