"""What a box does when a framework watches a loop for it that knows nothing of boxes."""

from __future__ import annotations

from collections.abc import Callable

from backprop_core.clock import Clock
from backprop_core.deadline.forecast import Phase
from backprop_core.loop.loops import LeaveBox, Loops
from backprop_core.loop.resume_loop import LoopRestorer
from backprop_core.loop.resume_report import Given, pass_sentence, resume_sentence
from backprop_core.ports.unmodified_loop import ResumePoint

_PLACE_LOST = (
    "Fewer passes over the data came before the training than when the checkpoint was made, and with several processes "
    "no step can be undone: the interrupted epoch starts over, so some of its samples come again."
)

_PLACE_UNKNOWN = (
    "The place in this script's data cannot be followed {}: checkpoints go on, but a resume begins the interrupted pass "
    "over the data anew. box.batches(loader) in a time box of its own keeps it."
)
INSIDE_A_STEP = (
    "One optimizer step takes many evaluations of its closure, so it is saved inside: a resume repeats this step from "
    "the parameters that it had reached, and the result is not bit-identical to an uninterrupted run."
)
_NOT_WATCHED = (
    "This training loop cannot be watched any more {}: no further checkpoint is made of it. A time box with box.epochs and "
    "box.batches, or box.step() after each step, does without watching."
)


class RawLoopListener:
    """Turns what the watched loop does into boundaries; silent once the script uses the box's own loops."""

    def __init__(self, loops: Loops, restorer: LoopRestorer, clock: Clock) -> None:
        self._loops = loops
        self._restorer = restorer
        self._clock = clock
        self._to_tell: Callable[[Given], str] | None = resume_sentence

    def pass_begins(self) -> None:
        """The block is open already; functions that were not running then are seen now."""
        if not self._loops.used:
            self._loops.loop_state.script.look()

    def first_step(self) -> None:
        """Called by the watched loop just before the first optimizer step of the block."""
        loop_state = self._loops.loop_state
        if self._restorer.late and loop_state.raw is not None and not self._restorer.restore_at_first_step():
            loop_state.raw.nullify_until_boundary()

    def training_begins(self, number: int) -> None:
        """Called by the watched loop just before the first step of a further training of the process."""
        if not self._loops.used and self._restorer.training_begins(number):
            self.first_step()

    def objects_joined(self) -> None:
        """Called by the watched loop before the first step of an optimizer that joins those that are known."""
        self._restorer.searched = False

    def place_lost(self) -> None:
        """Called by the watched loop where it could not find the interrupted pass in time."""
        self._loops.session.messages.say_once(_PLACE_LOST, "warning")

    def not_exact(self, caveat: str) -> None:
        """Called by the watched loop where something of the resumed pass cannot come back."""
        self._loops.session.messages.say_once(caveat)

    def cannot_follow(self, why: Exception | str, *, entirely: bool) -> None:
        """Called by the watched loop where something unforeseen went wrong in the watching, or where it sees too little."""
        session = self._loops.session
        what = why if isinstance(why, str) else f"{type(why).__name__}: {' '.join(str(why).split())[:200]}"
        session.messages.say_once(
            _NOT_WATCHED.format(f"({what})") if entirely else _PLACE_UNKNOWN.format(f"({what})"), "warning"
        )

    def at_boundary(self, *, epoch_end: bool) -> None:
        """Called by the watched loop between two steps; may raise `LeaveBox`."""
        loops = self._loops
        if loops.used:
            return
        if self._restorer.awaited is not None:
            if self._clock.monotonic() >= loops.session.wake and loops.session.look():
                loops.session.leave(save=False)
                raise LeaveBox(loops)
            return
        if self._restorer.late:
            self._restorer.find()
            self._restorer.restore_late()
            self._pass_over()
            return
        self._pass_over()
        if self._to_tell is not None:
            self._tell_what_came_back(self._to_tell)
        loops.loop_state.step += 1
        loops.pending += 1
        if epoch_end or self._clock.monotonic() >= loops.session.wake:
            loops.boundary_of_pending(Phase.EPOCH_END if epoch_end else Phase.PLAIN)

    def _tell_what_came_back(self, sentence: Callable[[Given], str]) -> None:
        """Said at the first boundary, when all that could come back has; an interrupted pass may begin again later."""
        session = self._loops.session
        if session.restored is None:
            self._to_tell = None
            return
        given = self._restorer.given()
        if said := sentence(given):
            session.messages.say(said)
        self._to_tell = pass_sentence if given.place is ResumePoint.AWAITED else None

    def _pass_over(self) -> None:
        """A training that is completed is not trained on: its state is the final one, without the step that led here.

        Raises:
            LeaveBox: it is.
        """
        session = self._loops.session
        if session.passes_over:
            self._restorer.arrive()
            session.leave_completed()
            raise LeaveBox(self._loops)

    def inside_step(self, *, lowest: bool, seldom: bool) -> None:
        """Called by the watched loop inside of a step that evaluates its closure many times; may raise `LeaveBox`.

        A line search also tries places that are worse, where only time forces a save.
        """
        loops = self._loops
        if loops.used or self._restorer.late or self._restorer.awaited is not None:
            return
        if seldom:
            loops.loop_state.step += 1
            loops.pending += 1
        if self._clock.monotonic() < loops.session.wake or not (self.must_leave() or (seldom and lowest)):
            return
        loops.session.messages.say_once(INSIDE_A_STEP)
        loops.boundary_of_pending(Phase.PLAIN)

    def must_leave(self) -> bool:
        """Called by the watched loop inside something longer than a step, such as an evaluation.

        Only time forces it out of there: the code behind an evaluation belongs to the epoch and would be missed.
        """
        session = self._loops.session
        if self._loops.used or self._clock.monotonic() < session.wake or not session.look():
            return False
        session.wake = 0.0  # the next boundary decides
        pacer = session.pacer
        return (
            session.is_cut
            or session.remaining_s() < pacer.save_s() + pacer.exit_s() + 2 * session.forecast.longest_step_s()
        )
