"""Giving a box's objects, randomness and place back from a checkpoint, at once or as soon as the objects exist."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from backprop_core.errors import StateMismatchError
from backprop_core.loop.loop_state import Keeping
from backprop_core.loop.resume_report import Given, Place
from backprop_core.session.session import Session


class Takeback:
    """Restores what one box keeps.

    Attributes:
        late: the objects did not exist when the block was entered; they are restored at the first boundary.
        searched: what training uses has been looked for.
        awaited: the checkpoint was made in a later training of the process, this one counted from 0; what comes
            before it runs again first, without checkpoints. None: nothing is awaited.
        behind_first_step: the objects came back behind the first step, which had no effect.
        goes_on: the interrupted pass, or step, is under way again.
        counters: what the script counts itself has come back.
    """

    def __init__(self, session: Session, keeping: Keeping) -> None:
        self.session = session
        self.keeping = keeping
        self.late = False
        self.searched = False
        self.awaited: int | None = None
        self.behind_first_step = self.goes_on = self.counters = False

    def restore(self) -> None:
        session, keeping = self.session, self.keeping
        loaded = session.restored
        if loaded is None:
            return
        self.late = False
        number = self._training(loaded.states)
        if number and keeping.found and self.awaited is None and not self.searched:
            self.awaited = number
            session.teller.say(
                f"{self.source} was made in training {number + 1} of this script's process: what comes before it runs again "
                "first, without checkpoints."
            )
            return
        then = keeping.processes_then(loaded.states)
        if then != keeping.processes:
            session.teller.say_once(
                f"{self.source} was made by {then} processes and now there are {keeping.processes}: what each process has "
                "of its own, its random numbers and its place in the data, is not that of the uncut training.",
                "warning",
            )
        keeping.take_back_place(loaded.states, self.source)
        if keeping.found and keeping.raw is not None:
            keeping.raw.repair(loaded.states)
            wanted = set(keeping.saved_names(loaded.states)) - set(keeping.objects)
            there = {name: value for name, value in keeping.raw.candidates().items() if name in wanted}
            if wanted - set(there):
                self.late = True
                return
            keeping.track(there, found=True)
        own = keeping.randomness()
        missing = self.take_back()
        if missing:
            session.teller.say(
                f"{self.source} holds nothing for {', '.join(missing)}: kept as the script made it.",
                "warning",
            )
        # Code before the interrupted pass runs again and may change things: an evaluation, say. It draws what it drew.
        if not keeping.cursor.finding_back:
            if self._resume_raw_loop(self.arrive):
                keeping.set_randomness(own)
            else:
                self.arrive()

    @property
    def source(self) -> str:
        """The checkpoint, as messages call it."""
        return f"Checkpoint {self.session.resumed_from}"

    def take_back(self) -> list[str]:
        """Objects and randomness as they were at the boundary; the names that had no state."""
        session, keeping = self.session, self.keeping
        if session.restored is None:
            return []
        states = session.restored.states
        missing = keeping.take_back_objects(states, self.source)
        keeping.take_back_randomness(states)
        return missing

    def arrive(self) -> None:
        """The place is found at which the checkpoint was made: what the script itself had changed comes back, too."""
        session = self.session
        if session.restored is None:
            return
        missing = self.keeping.take_back_script(session.restored.states)
        for one in missing:
            session.teller.say_once(
                f"{self.source} holds {one.name}, which could not be restored: {one.why}.", "warning"
            )
        self.take_back()

    def _training(self, states: Mapping[str, object]) -> int:
        raw = self.keeping.raw
        return 0 if raw is None else raw.training_of(self.keeping.raw_position(states))

    def training_begins(self, number: int) -> bool:
        """A further training begins in the process. True: it is the one that is awaited."""
        session, keeping = self.session, self.keeping
        if self.awaited is not None and number < self.awaited:
            return False
        if self.awaited is None:
            keeping.forget_found()
            self.searched = False
            session.teller.say_once(
                "Another training begins in this process: a resume runs what came before it again, and then goes on in it."
            )
            return False
        self.awaited = None
        assert session.restored is not None
        keeping.take_back_place(session.restored.states, self.source)
        self.late = self.searched = True
        return True

    def _resume_raw_loop(self, when_begun: Callable[[], object], *, midway: bool = False) -> bool:
        session, keeping = self.session, self.keeping
        if keeping.raw is None or session.restored is None:
            return False
        position = keeping.raw_position(session.restored.states)

        def begun() -> None:
            self.goes_on = True
            when_begun()

        return keeping.raw.resume(position, begun, midway=midway)

    def given(self) -> Given:
        """What has come back so far."""
        session, keeping = self.session, self.keeping
        states = {} if session.restored is None else session.restored.states
        place, batches = Place.UNKNOWN, 0
        if keeping.raw is not None:
            place, batches = keeping.raw.place_of(keeping.raw_position(states))
        if place in (Place.PASS, Place.STEP) and not self.goes_on:
            place = Place.AWAITED
        names = [name for name in keeping.saved_names(states) if name in keeping.objects]
        return Given(
            names, self.behind_first_step, place, batches, counters=self.counters, in_block=not keeping.found
        )

    def restore_at_first_step(self) -> bool:
        """The objects did not exist when the block was entered. True: they do now, and the training goes on at this step."""
        session, keeping = self.session, self.keeping
        if session.restored is None or keeping.raw is None:
            return False
        states = session.restored.states
        if not keeping.raw.goes_on_at_a_step(keeping.raw_position(states)):
            return False
        self.restore()
        return not self.late

    def restore_late(self) -> None:
        """The objects did not exist when the block was entered: restore them now that they are in use.

        Raises:
            StateMismatchError: the training uses other objects; nothing was restored.
        """
        session, keeping = self.session, self.keeping
        self.late = False
        assert session.restored is not None
        wanted = set(keeping.saved_names(session.restored.states)) - set(keeping.objects)
        if wanted:
            raise StateMismatchError(
                f"{self.source} does not fit this script: it holds {', '.join(sorted(wanted))}, which training does "
                "not use. Nothing was restored.",
                "Run the script as it was, or start afresh with resume=False (a new run).",
            )
        self.take_back()
        self.behind_first_step = True
        if not self._resume_raw_loop(self.arrive, midway=True):
            self.arrive()

    def find(self) -> None:
        """What training uses is known now."""
        self.searched = True
        session, keeping = self.session, self.keeping
        fresh = keeping.find()
        if fresh:
            session.teller.say_once(f"found {_described(keeping.objects, fresh)}.")


def _described(objects: Mapping[str, object], names: Iterable[str]) -> str:
    return ", ".join(f"{name} ({type(objects[name]).__name__})" for name in names)
