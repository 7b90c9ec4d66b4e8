"""Says what a resume of a loop that has never heard of boxes gave back, from what was done and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from backprop_core.errors import StateMismatchError
from backprop_core.ports.unmodified_loop import ResumePoint
from backprop_core.quick_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Given:
    """What came back.

    Attributes:
        objects: the names of the objects whose state was restored.
        late: they exist only since the first step; it was taken back, and had no effect.
        place: where the data goes on.
        batches: of the interrupted pass that are over.
        counters: what the script counts itself came back as well.
        in_block: the script has a time box of its own.
    """

    objects: Sequence[str]
    late: bool
    place: ResumePoint
    batches: int = 0
    counters: bool = False
    in_block: bool = False


def not_restored_whole(checkpoint: object, error: Exception) -> StateMismatchError:
    """A fault on the way back, when some of it may be back already: the script would continue from no place at all."""
    return StateMismatchError(
        f"Checkpoint {checkpoint} could not be restored whole: {type(error).__name__}: {error}. "
        "The script does not continue from a part of it.",
        "Report this, and start a new run.",
    )


def resume_sentence(given: Given) -> str:
    """What came back, what did not, and the lines that bring the rest."""
    parts = [_objects(given), *filter(None, [_place(given)])]
    if given.counters:
        return "; ".join(parts) + "."
    parts.append("the script's own counters start over")
    return f"{'; '.join(parts)}. {_advice(given)}"


def pass_sentence(given: Given) -> str:
    """That the interrupted pass goes on, where that was not so yet when the objects came back; nothing while it is not."""
    place = _place(given)
    return "" if given.place is ResumePoint.AWAITED else f"{place[0].upper()}{place[1:]}."


def _objects(given: Given) -> str:
    names = list(given.objects)
    if not names:
        return "None of this loop's objects were restored"
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    when = " after the first step, which had no effect" if given.late else ""
    return f"The state of {listed} was restored{when}"


def _place(given: Given) -> str:
    return {
        ResumePoint.PASS: f"the interrupted pass over the data continues after its first {given.batches} batches",
        ResumePoint.NEXT_PASS: "the data continues with the next pass",
        ResumePoint.STEP: "training continues at the interrupted step",
        ResumePoint.AWAITED: "the interrupted pass over the data has not started again so far",
        ResumePoint.UNKNOWN: "its data starts over",
    }[given.place]


def _advice(given: Given) -> str:
    loops = (
        "'for step in box.steps(N):'"
        if given.place is ResumePoint.STEP
        else "'for epoch in box.epochs(N):' and 'for batch in box.batches(loader):'"
    )
    lines = "One line makes" if given.place is ResumePoint.STEP else "Two lines make"
    if given.in_block:
        without = "Or start the script with 'backprop run', which counts such loops by itself."
        return f"{lines} it exact, in place of the loop: {loops}. {without}"
    return f"{lines} it exact, inside of 'with backprop.timebox() as box:' and in place of the loop: {loops}."
