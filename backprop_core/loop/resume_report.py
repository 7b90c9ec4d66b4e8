"""Says what a resume of a loop that has never heard of boxes gave back, from what was done and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Place(Enum):
    """Where the data goes on."""

    UNKNOWN = "unknown"
    """The checkpoint does not say: it was made in loops of a box's own, say."""
    AWAITED = "awaited"
    """The interrupted pass has not begun again so far."""
    PASS = "pass"
    """The interrupted pass goes on at its next batch."""
    NEXT_PASS = "next pass"
    """The checkpoint was made between two passes."""
    STEP = "step"
    """A loop without a loader goes on at the optimizer step that was interrupted."""


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
    place: Place
    batches: int = 0
    counters: bool = False
    in_block: bool = False


def resume_sentence(given: Given) -> str:
    """What came back, what did not, and the lines that bring the rest."""
    parts = [_objects(given), *filter(None, [_place(given)])]
    if given.counters:
        return "; ".join(parts) + "."
    parts.append("the script's own counters begin anew")
    return f"{'; '.join(parts)}. {_advice(given)}"


def pass_sentence(given: Given) -> str:
    """That the interrupted pass goes on, where that was not so yet when the objects came back; nothing while it is not."""
    place = _place(given)
    return "" if given.place is Place.AWAITED else f"{place[0].upper()}{place[1:]}."


def _objects(given: Given) -> str:
    names = list(given.objects)
    if not names:
        return "Of the objects of this loop none came back"
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    when = " behind the first step, which had no effect" if given.late else ""
    return f"The state of {listed} came back{when}"


def _place(given: Given) -> str:
    return {
        Place.PASS: f"the interrupted pass over the data goes on behind its first {given.batches} batches",
        Place.NEXT_PASS: "the data goes on with the next pass",
        Place.STEP: "training goes on at the interrupted step",
        Place.AWAITED: "the interrupted pass over the data has not begun again so far",
        Place.UNKNOWN: "its data begins anew",
    }[given.place]


def _advice(given: Given) -> str:
    loops = (
        "for step in box.steps(N):"
        if given.place is Place.STEP
        else "for epoch in box.epochs(N): and for batch in box.batches(loader):"
    )
    lines = "One line makes" if given.place is Place.STEP else "Two lines make"
    if given.in_block:
        without = "Or leave the block out: 'backprop run' counts the loops of a script that has no time box of its own."
        return f"{lines} it exact, in place of the loop: {loops} {without}"
    return f"{lines} it exact, inside of 'with backprop.timebox() as box:' and in place of the loop: {loops}"
