"""What a process leaves in shared memory, so that another can commit it when this one has died without a word.

A half that is whole has a record in the header, which names its description: a whole manifest, with the digest of each
file that the checkpoint is to have, and where in the memory the file's bytes lie. Whoever reads takes nothing on trust:
every offset is checked against the memory's real size, and every file's digest when it has been written, so that a script
that scribbled over its own memory costs this copy and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from backprop_core.quick_dataclass import dataclass
from backprop_core.strict_json import as_whole, decode_exactly, encode_exactly

from .array_files import PlannedFile
from .arrays import JSON
from .files import FileFacts
from .folder import FolderPlan
from .manifest import MAX_MANIFEST_BYTES, CheckpointFacts, Manifest, dump_manifest, parse_manifest
from .shards import part_folder
from .survivor_header import READ_AT, Record, digest_of, records

_MAX_DESCRIPTION_BYTES: Final = 4 * MAX_MANIFEST_BYTES
_PIECE_BYTES: Final = 4 << 20

Span = tuple[int, int]
"""Offset in the memory and number of bytes."""


_OF_RANKS: Final = "copy_of_ranks"


@dataclass(frozen=True, slots=True)
class CopyOfRanks:
    """Which of several processes has made a copy: theirs of the same number make one checkpoint.

    Attributes:
        group: a name that these processes have in common, and no others.
        number: counts what they were asked for.
        rank, count: which one this is, of how many.
    """

    group: str
    number: int
    rank: int
    count: int

    def marked(self, facts: CheckpointFacts) -> CheckpointFacts:
        """`facts` of its copy."""
        among: list[JSON] = [self.group, self.number, self.rank, self.count]
        return replace(facts, extra={**facts.extra, _OF_RANKS: among})


def of_ranks(facts: CheckpointFacts) -> CopyOfRanks | None:
    """Whose copy `facts` are of; None where it is a state of its own, or what they say makes no sense."""
    match facts.extra.get(_OF_RANKS):
        case [str(group), int(number), int(rank), int(count)] if 0 <= rank < count:
            return CopyOfRanks(group, number, rank, count)
    return None


def compared_at(facts: CheckpointFacts) -> int | None:
    """The step at which, or later, every byte was compared that was not copied again; None where all were copied."""
    return as_whole(facts.extra.get(READ_AT), least=0)


def with_compared_at(facts: CheckpointFacts, step: int | None) -> CheckpointFacts:
    """`facts` that say so, where that is known."""
    return facts if step is None else replace(facts, extra={**facts.extra, READ_AT: step})


def together(copies: Sequence[Half]) -> Half:
    """One checkpoint of the copies of all ranks, the first rank's first."""
    first = copies[0]
    facts = first.manifest.facts
    extra = {key: one for key, one in facts.extra.items() if key != _OF_RANKS}
    compared = [step for copy in copies if (step := compared_at(copy.manifest.facts)) is not None]
    facts = replace(facts, extra={**extra, READ_AT: min(compared)} if compared else extra)
    files: dict[str, FileFacts] = {}
    plans: dict[str, PlannedFile] = {}
    for rank, copy in enumerate(copies):
        own = {name for name in copy.plan.files if not rank or name.startswith(part_folder(rank))}
        files |= {name: copy.manifest.files[name] for name in own}
        plans |= {name: copy.plan.files[name] for name in own}
    manifest = replace(first.manifest, facts=facts, files=files)
    return Half(manifest, FolderPlan(plans, first.plan.objects))


def describe(manifest: Manifest, spans: Mapping[str, Sequence[Span]]) -> tuple[bytes, bytes]:
    """The description of a half, and its digest.

    Raises:
        UnsavableStateError: a fact that is not plain.
    """
    text = encode_exactly({"manifest": dump_manifest(manifest, indent=None).decode(), "files": spans})
    return text, digest_of(text)


@dataclass(frozen=True, slots=True)
class Half:
    """A half that is whole as far as its seal tells.

    Attributes:
        manifest: what the checkpoint is to say; the digests are those of the copy.
        plan: its files, read from the memory as they are written.
    """

    manifest: Manifest
    plan: FolderPlan


def halves(fd: int) -> Iterator[Half | ValueError]:
    """The halves that are sealed, the newest first; for one that lies, the error that says how.

    Raises:
        OSError: the memory cannot be read.
    """
    for record in records(fd):
        try:
            yield _half(fd, record)
        except ValueError as error:
            yield error


def _half(fd: int, record: Record) -> Half:
    size = os.fstat(fd).st_size
    if record.nbytes > _MAX_DESCRIPTION_BYTES or not _inside((record.offset, record.nbytes), size):
        raise ValueError("its description lies outside the memory")
    text = os.pread(fd, record.nbytes, record.offset)
    if digest_of(text) != record.digest:
        raise ValueError("its description has changed since it was sealed")
    fields = decode_exactly(text)
    if not isinstance(fields, dict) or not isinstance(fields.get("manifest"), str):
        raise ValueError("its description is malformed")
    manifest = parse_manifest(fields["manifest"].encode())
    spans = fields.get("files")
    if not isinstance(spans, dict) or spans.keys() != manifest.files.keys():
        raise ValueError("its description names other files than its manifest")
    files = {
        name: _file(fd, name, _spans(spans[name], size), facts.nbytes)
        for name, facts in manifest.files.items()
    }
    if sum(file.nbytes for file in files.values()) > size:
        raise ValueError("its files are larger than the memory")
    return Half(manifest, FolderPlan(files, manifest.objects))


def _inside(span: Span, size: int) -> bool:
    return 0 <= span[0] <= size and 0 <= span[1] <= size - span[0]


def _spans(listed: Any, size: int) -> list[Span]:
    spans = []
    for one in listed if isinstance(listed, list) else [None]:
        if not isinstance(one, list) or len(one) != 2 or not all(type(number) is int for number in one):
            raise ValueError("its description is malformed")
        spans.append((one[0], one[1]))
        if not _inside(spans[-1], size):
            raise ValueError("one of its files lies outside the memory")
    return spans


def _file(fd: int, name: str, spans: Sequence[Span], nbytes: int) -> PlannedFile:
    if sum(length for _, length in spans) != nbytes:
        raise ValueError(f"{name} has another size than its manifest says")
    return PlannedFile(nbytes, lambda: _read(fd, spans))


def _read(fd: int, spans: Sequence[Span]) -> Iterator[memoryview]:
    """The bytes, piece by piece, in memory that is used again: never more than a piece is held."""
    piece = memoryview(bytearray(min(_PIECE_BYTES, max((length for _, length in spans), default=0))))
    for offset, length in spans:
        at, end = offset, offset + length
        while at < end:
            got = os.preadv(fd, [piece[: end - at]], at)
            if not got:
                raise ValueError("the memory is shorter than it was")
            yield piece[:got]
            at += got
