"""What one rank of one attempt writes: a JSON line for each boundary, with the pieces that have changed since the last."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from backprop_core.prove.pieces import Group, Pieces
from backprop_core.quick_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Moment:
    """One boundary.

    Attributes:
        step, epoch, batch: where it lies.
        pieces: group and digest of all that was there, by name.
        batches: digests of what was trained on since the boundary before.
        arrived: it is not a boundary, but the moment at which a resumed attempt has put everything back.
        place: the running loops, the outermost first, as the adapter tells them.
    """

    step: int
    epoch: int | None
    batch: int
    pieces: Pieces
    batches: Sequence[str] = ()
    arrived: bool = False
    place: Sequence[int] = ()


@dataclass(slots=True)
class Stream:
    """What one rank of one attempt has written.

    Attributes:
        attempt, rank: whose it is.
        moments: in the order in which they came.
        evaluations: places at which an evaluation can be left, by step.
        unkept: what changed and could not be kept, by name; why.
        what_to_do: with each of it, a sentence.
        began_at: the step of the checkpoint that it went on from; None for the beginning.
        left_evaluation: it was cut inside an evaluation.
        killed: it was told to kill itself, and did.
        refuses: the calls by which frameworks were told to refuse operations that are not deterministic.
        fault: what went wrong in the writing of it, or empty.
    """

    attempt: int = 1
    rank: int = 0
    moments: list[Moment] = field(default_factory=list)
    evaluations: dict[int, int] = field(default_factory=dict)
    unkept: dict[str, str] = field(default_factory=dict)
    what_to_do: dict[str, str] = field(default_factory=dict)
    began_at: int | None = None
    fault: str = ""
    left_evaluation: bool = False
    killed: bool = False
    refuses: list[str] = field(default_factory=list)

    @property
    def steps(self) -> list[Moment]:
        """The boundaries behind a step."""
        return [one for one in self.moments if not one.arrived]

    @property
    def arrival(self) -> Moment | None:
        """The last moment at which everything had been put back."""
        return next((one for one in reversed(self.moments) if one.arrived), None)


class StreamWriter:
    """Writes a stream as it comes; a process that is killed loses nothing of it."""

    def __init__(self, folder: Path, attempt: int, rank: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"attempt-{attempt:03d}-rank-{rank:03d}.jsonl"
        self._file = (folder / name).open("a", encoding="utf-8", buffering=1)
        self._before: Pieces = {}

    def moment(self, moment: Moment) -> None:
        """Write what differs from the moment before."""
        before = self._before
        changed = {name: list(piece) for name, piece in moment.pieces.items() if before.get(name) != piece}
        line: dict[str, Any] = {
            "step": moment.step,
            "epoch": moment.epoch,
            "batch": moment.batch,
            "arrived": moment.arrived,
            "place": list(moment.place),
            "batches": list(moment.batches),
            "changed": changed,
            "gone": [name for name in before if name not in moment.pieces],
        }
        self._before = dict(moment.pieces)
        self._write(line)

    def told(self, **facts: Any) -> None:
        """Something that is no moment: a place in an evaluation, what cannot be kept, where the attempt began."""
        self._write(facts)

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")


def read_streams(folder: Path) -> list[Stream]:
    """All streams of a folder, by attempt and rank."""
    return [_read(path) for path in sorted(folder.glob("attempt-*.jsonl"))]


def _read(path: Path) -> Stream:
    words = path.stem.split("-")
    stream, pieces = Stream(int(words[1]), int(words[3])), Pieces()
    for line in _lines(path):
        if "evaluation" in line:
            stream.evaluations[line["evaluation"]] = line["places"]
        elif "unkept" in line:
            stream.unkept[line["unkept"]] = line["why"]
            stream.what_to_do[line["unkept"]] = line["what_to_do"]
        elif "left_evaluation" in line:
            stream.left_evaluation = True
        elif "killed" in line:
            stream.killed = True
        elif "refuses" in line:
            stream.refuses = line["refuses"]
        elif "fault" in line:
            stream.fault = line["fault"]
        elif "began_at" in line:
            stream.began_at = line["began_at"]
        else:
            pieces = {name: piece for name, piece in pieces.items() if name not in set(line["gone"])}
            pieces |= {name: (Group(group), digest) for name, (group, digest) in line["changed"].items()}
            stream.moments.append(
                Moment(
                    line["step"],
                    line["epoch"],
                    line["batch"],
                    dict(pieces),
                    line["batches"],
                    line["arrived"],
                    line["place"],
                )
            )
    return stream


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if text.endswith("\n"):  # a process that was killed may leave half a line
            yield json.loads(text)
