"""What a rank that is not the first copies into memory that outlives it: its blocks of arrays that are spread.

The first rank asks for a copy as it asks for a save, at a boundary at which all talk. So all copy the same step, under the
same number. In the first word of each talk every rank tells which copy it has whole, so all know the newest that everybody
has, and write over any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.codec import Snapshot, capture_shards
from backprop_core.checkpoints.manifest import CheckpointFacts
from backprop_core.checkpoints.shards import Shards
from backprop_core.checkpoints.survivor_memory import CopyOfRanks
from backprop_core.clock import Clock
from backprop_core.outcome import SaveReason
from backprop_core.ports.ranks import Ranks
from backprop_core.runs.handover import MemoryOwner
from backprop_core.session.rank_talk import Opening
from backprop_core.session.survivor import Survivor, join_survivor

TALKS_TO_JOIN = 20
"""So often a rank may say that it has no memory for copies: it takes it when it first knows that arrays are spread."""
NO_COPIES = (
    "A process of this training has no memory that outlives it (it may run on another machine), so a sudden death costs "
    "everything since the last checkpoint."
)


class RankCopies:
    """The copies of one rank; none where no governor of this machine holds its memory."""

    def __init__(
        self, opening: Opening, ranks: Ranks, translators: Sequence[Translator], clock: Clock
    ) -> None:
        self._opening = opening
        self._ranks = ranks
        self._translators = translators
        owner = MemoryOwner(opening.run_id, opening.attempt, opening.directory, opening.name, ranks.rank)
        self._survivor: Survivor | None = join_survivor(
            Path(opening.attempt_directory), owner, translators, clock
        )

    @property
    def sealed(self) -> int:
        """The number of the newest copy that is whole; 0: none is, -1: none can be made."""
        return -1 if self._survivor is None else self._survivor.newest

    def copy(self, number: int, step: int, shards: Shards) -> None:
        """Copy `shards`, in the place of any copy but the newest that all ranks have whole.

        Raises:
            UnsavableStateError: one of them cannot be stored.
            MemoryError: there is no memory for it, and none will be asked for again.
        """
        survivor = self._survivor
        if survivor is None:
            return
        survivor.settle()
        survivor.spared = max(0, self._ranks.sealed_by_all)
        blocks = capture_shards(shards, self._translators)
        half = survivor.choose(range(len(survivor.halves)))
        assert half is not None  # all are free, and one alone is spared
        try:
            snapshot = Snapshot({}, blocks.nbytes, blocks)
            survivor.reserve(snapshot)
            survivor.wipe(half)
            staged = snapshot.staged(survivor.halves[half])
        except MemoryError:
            self.close(leave=False)
            raise
        opening = self._opening
        among = CopyOfRanks(opening.name, number, self._ranks.rank, self._ranks.count)
        facts = CheckpointFacts(opening.run_id, opening.attempt, step, None, 0, SaveReason.SURVIVOR)
        survivor.seal(half, staged, among.marked(facts))

    def close(self, *, leave: bool) -> None:
        """No more copies are made; those there are stay for the governor, or go."""
        survivor, self._survivor = self._survivor, None
        if survivor is not None:
            survivor.close(leave=leave)
