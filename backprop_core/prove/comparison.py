"""Streams of digests compared, boundary by boundary. Pure: it reads no file and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace

from backprop_core.prove.pieces import Group, Pieces
from backprop_core.prove.stream import Moment, Stream
from backprop_core.quick_dataclass import dataclass

BATCHES = "batches"
OTHER_NUMBER = "were "
"""So begins what is said where a step was made of another number of batches: its accumulation window is another."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One piece that is not the same.

    Attributes:
        name, group: which.
        step: the first boundary at which it differed.
        rank: whose piece it is.
        attempt: the attempt of the cut run in which it differed; 2 where two whole runs are compared.
        after_cut: the step of the checkpoint from which that attempt had gone on; None for none.
        how: half a sentence, such as "is missing".
    """

    name: str
    group: Group
    step: int
    rank: int = 0
    attempt: int = 2
    after_cut: int | None = None
    how: str = "differs"


@dataclass(slots=True)
class Compared:
    """What a comparison found.

    Attributes:
        steps: how many boundaries were compared, those that were trained twice counted once.
        differences: the first of each piece, in the order of steps.
        at_arrival: pieces that were not as before right after a resume, by rank; they may have no effect.
        pieces: how many there are of each group.
        unequal: names that differed, by group.
        arrivals_seen: resumed attempts of which it is known what they had right after the resume.
    """

    steps: int = 0
    differences: list[Difference] = field(default_factory=list)
    at_arrival: list[Difference] = field(default_factory=list)
    pieces: dict[Group, int] = field(default_factory=dict)
    unequal: dict[Group, set[str]] = field(default_factory=dict)
    arrivals_seen: set[int] = field(default_factory=set)


def compare(
    whole: Sequence[Stream],
    other: Sequence[Stream],
    *,
    without: frozenset[str] = frozenset(),
) -> Compared:
    """Compare the attempts of `other` with the one attempt of `whole`, for every rank.

    Args:
        without: names that are not compared: they differ between two whole runs, too.
    """
    result = Compared()
    seen: set[tuple[str, int]] = set()
    steps: set[int] = set()
    by_rank = {stream.rank: _by_step(stream.steps) for stream in whole}
    inside = {stream.attempt + 1 for stream in other if stream.left_evaluation}
    for stream in sorted(other, key=lambda one: (one.attempt, one.rank)):
        reference = by_rank.get(stream.rank, {})
        arrival = stream.arrival
        if arrival is not None and arrival.step in reference and stream.attempt not in inside:
            result.arrivals_seen.add(stream.attempt)
            others = _others(by_rank, stream.rank, arrival.step)
            there = _differences(reference[arrival.step].pieces, arrival.pieces, without, others)
            result.at_arrival += [_of(stream, arrival.step, *one) for one in there]
        before = -1 if stream.began_at is None else stream.began_at
        for moment in stream.steps:
            since, before = before, moment.step
            if moment.step not in reference:
                continue
            steps.add(moment.step)
            expected = _since(reference, since, moment.step)
            for found in _between(expected, moment, without, by_rank, stream.rank):
                if (found[0], stream.rank) not in seen:
                    seen.add((found[0], stream.rank))
                    result.differences.append(_of(stream, moment.step, *found))
    for stream in whole:
        _count(stream, steps, without, result.pieces)
    for one in result.differences:
        result.unequal.setdefault(one.group, set()).add(one.name)
    result.steps = len({step for step in steps if step > 0})
    return result


def _since(reference: Mapping[int, Moment], since: int, step: int) -> Moment:
    """The moment at `step`, with all that was trained on since the other run's boundary before."""
    between = [one for number, one in sorted(reference.items()) if since < number <= step]
    batches = [batch for one in between for batch in one.batches]
    return replace(reference[step], batches=batches)


def _by_step(moments: Iterable[Moment]) -> dict[int, Moment]:
    return {one.step: one for one in moments}


def _others(by_rank: Mapping[int, Mapping[int, Moment]], rank: int, step: int) -> dict[int, Pieces]:
    """What the other ranks held at this step."""
    return {
        other: moments[step].pieces for other, moments in by_rank.items() if other != rank and step in moments
    }


def _of(stream: Stream, step: int, name: str, group: Group, how: str) -> Difference:
    return Difference(name, group, step, stream.rank, stream.attempt, stream.began_at, how)


def _between(
    before: Moment,
    after: Moment,
    without: frozenset[str],
    by_rank: Mapping[int, Mapping[int, Moment]],
    rank: int,
) -> list[tuple[str, Group, str]]:
    found = _differences(before.pieces, after.pieces, without, _others(by_rank, rank, after.step))
    if list(before.batches) != list(after.batches) and BATCHES not in without:
        found.append((BATCHES, Group.BATCH, _how_batches(before, after, by_rank, rank)))
    return found


def _differences(
    before: Pieces, after: Pieces, without: frozenset[str], others: Mapping[int, Pieces]
) -> list[tuple[str, Group, str]]:
    found = []
    for name, (group, digest) in before.items():
        if name in without:
            continue
        if name not in after:
            found.append((name, group, "is missing"))
        elif after[name][1] != digest:
            whose = next((rank for rank, held in others.items() if held.get(name) == after[name]), None)
            found.append((name, group, "differs" if whose is None else f"is that of rank {whose}"))
    found += [
        (name, group, "is new")
        for name, (group, _) in after.items()
        if name not in before and name not in without
    ]
    return found


def _how_batches(
    before: Moment, after: Moment, by_rank: Mapping[int, Mapping[int, Moment]], rank: int
) -> str:
    """What has become of the batches, as half a sentence."""
    if len(before.batches) != len(after.batches):
        return f"{OTHER_NUMBER}{len(after.batches)} for this step, and {len(before.batches)} in the whole run"
    if not after.batches:
        return "differ"
    for number, moments in by_rank.items():
        if (
            number != rank
            and after.step in moments
            and list(moments[after.step].batches) == list(after.batches)
        ):
            return f"are those of rank {number}"
    apart = _shift(list(before.batches), list(after.batches), by_rank.get(rank, {}))
    if apart:
        return f"are shifted: {abs(apart)} {'ahead' if apart > 0 else 'behind'}"
    return "differ"


def _shift(expected: list[str], given: list[str], moments: Mapping[int, Moment]) -> int:
    """By how many batches `given` lies ahead of `expected` in all that the whole run was trained on; 0: it is not there."""
    all_of_them = [batch for step in sorted(moments) for batch in moments[step].batches]
    places = range(len(all_of_them) - len(given) + 1)
    here = next((at for at in places if all_of_them[at : at + len(expected)] == expected), None)
    there = [at for at in places if all_of_them[at : at + len(given)] == given]
    return 0 if here is None or not there else min((at - here for at in there), key=abs)


def _count(stream: Stream, steps: set[int], without: frozenset[str], into: dict[Group, int]) -> None:
    names: dict[str, Group] = {}
    for moment in stream.steps:
        if moment.step in steps:
            names |= {name: group for name, (group, _) in moment.pieces.items() if name not in without}
            if moment.batches:
                into[Group.BATCH] = into.get(Group.BATCH, 0) + len(moment.batches)
    for group in names.values():
        into[group] = into.get(group, 0) + 1


def changing(stream: Stream) -> dict[str, Group]:
    """The pieces that changed within a stream."""
    first: dict[str, str] = {}
    found: dict[str, Group] = {}
    for moment in stream.steps:
        for name, (group, digest) in moment.pieces.items():
            if first.setdefault(name, digest) != digest:
                found[name] = group
    return found
