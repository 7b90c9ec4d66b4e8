"""Checkpoints whose arrays are spread over the ranks of one training.

Each rank writes its own part into a folder beside the checkpoint's place; the first rank's commit takes all of them in, and
its manifest makes the checkpoint exist. In the tree of an object a mark stands for an array that is spread; each part holds
for such an array where its block begins and the block itself. All of it is JSON and safetensors. Where an array is the same
on several ranks, one of them writes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from backprop_core.quick_dataclass import dataclass

from .files import FileFacts
from .manifest import Manifest

SHARDS: Final = "backprop.shards"
"""In a mapping of states: `OwnShards` when it is saved, `SavedShards` when it was loaded."""
MARK: Final = "backprop.sharded"
"""The one key of the dict that stands for an array."""
PART = re.compile(r"rank-(\d{5})/")

Shards = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By object and path within it: `{"offsets": [...], "block": array}`."""


def mark(size: Sequence[int], dtype: str) -> dict[str, Any]:
    """What stands for an array of the global shape `size`."""
    return {MARK: {"size": list(size), "dtype": dtype}}


def marked(value: object) -> Mapping[str, Any] | None:
    """The facts of a mark; None for anything else."""
    if type(value) is dict and len(value) == 1 and isinstance(facts := value.get(MARK), Mapping):
        return facts
    return None


@dataclass(frozen=True, slots=True)
class Part:
    """One rank's part, written and on the disk.

    Attributes:
        rank: whose it is.
        folder: its name in the checkpoints' directory; it is moved into the checkpoint.
        files: size and digest of each file in it.
    """

    rank: int
    folder: str
    files: Mapping[str, FileFacts]


OtherParts = Callable[[], Sequence[Part]]
"""Waits until the other ranks have written theirs. Raises CheckpointWriteError where one has not."""


@dataclass(frozen=True, slots=True)
class OwnShards:
    """What the first rank saves of its own, and how it hears of the rest."""

    shards: Shards
    others: OtherParts | None


def part_folder(rank: int) -> str:
    """What the names of a rank's files begin with."""
    return f"rank-{rank:05d}/"


def take_in(directory: Path, saving: Path, part: Part) -> dict[str, FileFacts]:
    """Move a part into the checkpoint that is being saved; its files by their names there.

    Raises:
        OSError: it cannot be moved.
    """
    folder = part_folder(part.rank)
    (directory / part.folder).rename(saving / folder)
    return {f"{folder}{name}": facts for name, facts in part.files.items()}


@dataclass(frozen=True, slots=True)
class SavedShards:
    """The parts of a checkpoint. They are read one after another: all of them at once may be more than memory holds.

    Attributes:
        ranks: how many wrote it.
        read: gives the part of one of them, verified.
    """

    ranks: Sequence[int]
    read: Callable[[int], Shards]

    def __iter__(self) -> Iterator[Shards]:
        return map(self.read, self.ranks)


def ranks_in(manifest: Manifest) -> list[int]:
    """The ranks whose parts a checkpoint holds."""
    return sorted({int(found[1]) for name in manifest.files if (found := PART.match(name))})
