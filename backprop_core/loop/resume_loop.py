"""Giving a box's objects, randomness and place back from a checkpoint, at once or as soon as the objects exist."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from backprop_core.errors import StateMismatchError
from backprop_core.loop.loop_state import LoopState
from backprop_core.loop.resume_report import Given
from backprop_core.ports.unmodified_loop import ResumePoint
from backprop_core.session.session import Session


class LoopRestorer:
    """Restores what one box keeps.

    Attributes:
        late: the objects did not exist when the block was entered; they are restored at the first boundary.
        searched: what training uses has been looked for.
        awaited: the checkpoint was made in a later training of the process, this one counted from 0; what comes
            before it runs again first, without checkpoints. None: nothing is awaited.
        behind_first_step: the objects came back after the first step, which had no effect.
        goes_on: the interrupted pass, or step, is under way again.
        counters: what the script counts itself has come back.
    """

    def __init__(self, session: Session, loop_state: LoopState) -> None:
        self.session = session
        self.loop_state = loop_state
        self.late = False
        self.searched = False
        self.awaited: int | None = None
        self.behind_first_step = self.goes_on = self.counters = False

    def restore(self) -> None:
        session, loop_state = self.session, self.loop_state
        loaded = session.restored
        if loaded is None:
            return
        self.late = False
        number = self._training(loaded.states)
        if number and loop_state.found and self.awaited is None and not self.searched:
            self.awaited = number
            session.messages.say(
                f"{self.source} was made in training {number + 1} of this script's process: what comes before it runs again "
                "first, without checkpoints."
            )
            return
        if other := loop_state.of_other_ranks(loaded.states, self.source):
            session.messages.say_once(other, "warning")
        loop_state.restore_place(loaded.states, self.source)
        if loop_state.found and loop_state.raw is not None:
            loop_state.raw.repair(loaded.states)
            wanted = set(loop_state.saved_names(loaded.states)) - set(loop_state.objects)
            there = {name: value for name, value in loop_state.raw.candidates().items() if name in wanted}
            if wanted - set(there):
                self.late = True
                return
            loop_state.track(there, found=True)
        own = loop_state.randomness()
        missing = self.restore_states()
        if missing:
            session.messages.say(
                f"{self.source} holds nothing for {', '.join(missing)}: they stay as the script made them.",
                "warning",
            )
        # Code before the interrupted pass runs again and may change things: an evaluation, say. It draws what it drew.
        if not loop_state.cursor.finding_back:
            if self._resume_raw_loop(self.arrive):
                loop_state.set_randomness(own)
            else:
                self.arrive()

    @property
    def source(self) -> str:
        """The checkpoint, as messages call it."""
        return f"Checkpoint {self.session.resumed_from}"

    def restore_states(self) -> list[str]:
        """Objects and randomness as they were at the boundary; the names that had no state."""
        session, loop_state = self.session, self.loop_state
        if session.restored is None:
            return []
        states = session.restored.states
        if loop_state.is_rearranged(states):
            loop_state.restore_script(states)
        missing = loop_state.restore_objects(states, self.source)
        loop_state.restore_randomness(states)
        return missing

    def arrive(self) -> None:
        """The place is found at which the checkpoint was made: what the script itself had changed comes back, too."""
        session = self.session
        if session.restored is None:
            return
        missing = self.loop_state.restore_script(session.restored.states)
        for one in missing:
            session.messages.say_once(
                f"{self.source} holds {one.name}, which could not be restored: {one.why}.", "warning"
            )
        self.restore_states()
        session.arrived()

    def _training(self, states: Mapping[str, object]) -> int:
        raw = self.loop_state.raw
        return 0 if raw is None else raw.training_of(self.loop_state.raw_position(states))

    def training_begins(self, number: int) -> bool:
        """A further training begins in the process. True: it is the one that is awaited."""
        session, loop_state = self.session, self.loop_state
        if self.awaited is not None and number < self.awaited:
            return False
        if self.awaited is None:
            loop_state.forget_found()
            self.searched = False
            session.messages.say_once(
                "Another training begins in this process: a resume runs what came before it again, and then continues in it."
            )
            return False
        self.awaited = None
        assert session.restored is not None
        loop_state.restore_place(session.restored.states, self.source)
        self.late = self.searched = True
        return True

    def _resume_raw_loop(self, when_begun: Callable[[], object], *, midway: bool = False) -> bool:
        session, loop_state = self.session, self.loop_state
        if loop_state.raw is None or session.restored is None:
            return False
        position = loop_state.raw_position(session.restored.states)

        def begun() -> None:
            self.goes_on = True
            when_begun()

        return loop_state.raw.resume(position, begun, midway=midway)

    def given(self) -> Given:
        """What has come back so far."""
        session, loop_state = self.session, self.loop_state
        states = {} if session.restored is None else session.restored.states
        place, batches = ResumePoint.UNKNOWN, 0
        if loop_state.raw is not None:
            place, batches = loop_state.raw.place_of(loop_state.raw_position(states))
        if place in (ResumePoint.PASS, ResumePoint.STEP) and not self.goes_on:
            place = ResumePoint.AWAITED
        names = [name for name in loop_state.saved_names(states) if name in loop_state.objects]
        return Given(
            names,
            self.behind_first_step,
            place,
            batches,
            counters=self.counters,
            in_block=not loop_state.found,
        )

    def restore_at_first_step(self) -> bool:
        """The objects did not exist when the block was entered. True: they do now, and the training goes on at this step."""
        session, loop_state = self.session, self.loop_state
        if session.restored is None or loop_state.raw is None:
            return False
        states = session.restored.states
        if not loop_state.raw.goes_on_at_a_step(loop_state.raw_position(states)):
            return False
        self.restore()
        return not self.late

    def restore_late(self) -> None:
        """The objects did not exist when the block was entered: restore them now that they are in use.

        Raises:
            StateMismatchError: the training uses other objects; nothing was restored.
        """
        session, loop_state = self.session, self.loop_state
        self.late = False
        assert session.restored is not None
        wanted = set(loop_state.saved_names(session.restored.states)) - set(loop_state.objects)
        if wanted:
            raise StateMismatchError(
                f"{self.source} does not fit this script: it holds {', '.join(sorted(wanted))}, which training does "
                "not use. Nothing was restored.",
                "Run the script as it was, or start from scratch with resume=False (a new run).",
            )
        self.restore_states()
        self.behind_first_step = True
        if not self._resume_raw_loop(self.arrive, midway=True):
            self.arrive()

    def find(self) -> None:
        """What training uses is known now."""
        self.searched = True
        session, loop_state = self.session, self.loop_state
        fresh = loop_state.find()
        if fresh:
            session.messages.say_once(f"Checkpointing: {_described(loop_state.objects, fresh)}.")


def _described(objects: Mapping[str, object], names: Iterable[str]) -> str:
    return ", ".join(f"{name} ({type(objects[name]).__name__})" for name in names)
