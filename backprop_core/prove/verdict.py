"""What a proof says: identical, different, or not reproducible; as JSON, and read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Any

from backprop_core.prove.causes import Cause, cause_of, decides, why_not_reproducible
from backprop_core.prove.comparison import Compared, Difference, changing, compare
from backprop_core.prove.pieces import UNREAD, Group, readable
from backprop_core.prove.scratch import differing_files, pattern_of
from backprop_core.prove.stream import Stream
from backprop_core.quick_dataclass import dataclass


class ProofVerdict(StrEnum):
    """How a proof ends."""

    IDENTICAL = "identical"
    DIFFERENT = "different"
    NOT_REPRODUCIBLE = "not_reproducible"
    UNFINISHED = "unfinished"


EXIT_STATUS = {
    ProofVerdict.IDENTICAL: 0,
    ProofVerdict.DIFFERENT: 1,
    ProofVerdict.NOT_REPRODUCIBLE: 3,
    ProofVerdict.UNFINISHED: 124,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One group of pieces: how many were compared, and how many of them differed."""

    group: str
    pieces: int
    unequal: int


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of a proof.

    Attributes:
        verdict: identical, different, not reproducible, or unfinished.
        sentence: the verdict in one sentence.
        steps: boundaries that were compared.
        cuts: where the training was interrupted, for people to read.
        rows: one row for each group of compared pieces.
        name, group, step, after_cut: the piece that differs, and where it first did; empty or None if nothing does.
        depends: what depends on it.
        mend: the line that fixes it.
        not_compared: what also differs between two uninterrupted runs, such as the time of day; files as name patterns.
        unkept: what changes and is in no checkpoint, one sentence each.
        notes: further sentences.
        seconds: durations by kind, in seconds.
    """

    verdict: ProofVerdict
    sentence: str
    steps: int = 0
    cuts: Sequence[str] = ()
    rows: Sequence[Row] = ()
    name: str = ""
    group: str = ""
    step: int | None = None
    after_cut: int | None = None
    depends: str = ""
    mend: str = ""
    not_compared: Sequence[str] = ()
    unkept: Sequence[str] = ()
    notes: Sequence[str] = field(default=())
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        """The exit status of the command: 0, 1, 3, or 124 if its time box ended first."""
        return EXIT_STATUS[self.verdict]

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Proof:
        """The proof that `backprop prove --json` printed."""
        known = {name: told[name] for name in cls.__slots__ if name in told}
        rows = [Row(**row) for row in told.get("rows", ())]
        return cls(**{**known, "verdict": ProofVerdict(told["verdict"]), "rows": rows})


def reproducible(
    first: Sequence[Stream], second: Sequence[Stream], refused: str = ""
) -> tuple[Compared, Cause | None]:
    """Two whole runs compared, and why they differ in what is trained; None where they do not.

    Args:
        refused: see `why_not_reproducible`.
    """
    compared = compare(first, second)
    moved = {name for stream in first for name in changing(stream)}
    return compared, why_not_reproducible(compared, moved, refused)


def unread(streams: Sequence[Stream]) -> frozenset[str]:
    """Arrays that nobody could read, such as those of a tensor class of the script's own."""
    return frozenset(
        name
        for stream in streams
        for moment in stream.steps
        for name, (_, digest) in moment.pieces.items()
        if digest == UNREAD
    )


def names_of_the_attempt(compared: Compared) -> frozenset[str]:
    """What differs between two whole runs without a part in the training: the time of day, a process id."""
    return frozenset(one.name for one in compared.differences if not decides(one.group))


def compare_cut(
    whole: Sequence[Stream],
    cut: Sequence[Stream],
    *,
    without: frozenset[str],
    files: Mapping[str, str],
    files_again: Mapping[str, str],
    files_cut: Mapping[str, str],
) -> Compared:
    """A whole run and a cut one compared, and at the end the files that they wrote."""
    compared = compare(whole, cut, without=without)
    loose = differing_files(files, files_again)
    last = max((one.step for stream in whole for one in stream.steps), default=0)
    names = [name for name in sorted({*files, *files_cut}) if pattern_of(name) not in loose]
    for name in names:
        if files.get(name) != files_cut.get(name):
            how = "is missing" if name not in files_cut else "is new" if name not in files else "differs"
            compared.differences.append(Difference(name, Group.FILE, last, attempt=_LAST, how=how))
            compared.unequal.setdefault(Group.FILE, set()).add(name)
    if names:
        compared.pieces[Group.FILE] = len(names)
    return compared


_LAST = 1 << 30


def rows_of(compared: Compared) -> list[Row]:
    """Each group with its pieces."""
    return [
        Row(group.value, compared.pieces.get(group, 0), len(compared.unequal.get(group, ())))
        for group in Group
        if compared.pieces.get(group) or compared.unequal.get(group)
    ]


def unkept_in(streams: Sequence[Stream]) -> list[str]:
    """What changed and was in no checkpoint, a sentence each."""
    found: dict[str, str] = {}
    for stream in streams:
        found |= stream.unkept
    return list(found.values())


_MAY_FOLLOW = "First fix what is not kept (below): this may follow from it."


def mend_of_unkept(name: str, streams: Sequence[Stream]) -> str:
    """What to do about the piece `name` where it is, lies in, or may follow from something in no checkpoint; else empty."""
    for stream in streams:
        for unkept, what_to_do in stream.what_to_do.items():
            known = readable(unkept).removesuffix("[...]")
            if name == known or name.startswith((f"{known}.", f"{known}[")):
                return what_to_do
    return _MAY_FOLLOW if any(stream.what_to_do for stream in streams) else ""


def without_effect(compared: Compared, whole: Stream) -> list[str]:
    """Pieces that change in training, were other right after a resume, and the same again a step later."""
    moved = changing(whole)
    differed = {one.name for one in compared.differences}
    return sorted(
        {
            one.name
            for one in compared.at_arrival
            if one.name in moved and one.name not in differed and one.how == "differs"
        }
    )


__all__ = ["Proof", "ProofVerdict", "Row", "cause_of", "compare_cut", "reproducible", "rows_of"]
