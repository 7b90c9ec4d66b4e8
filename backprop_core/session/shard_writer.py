"""How the ranks that are not the first write what they hold of a checkpoint, and how the first hears of it.

They copy what they hold at the boundary, and write it in a thread while training goes on. What was written is told through a
board that all ranks see, so no rank waits in a collective for one that is gone.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from backprop_core.background import in_background
from backprop_core.checkpoints import leftovers
from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.codec import Snapshot, StagingBuffers, capture_shards
from backprop_core.checkpoints.files import FileFacts
from backprop_core.checkpoints.folder import write_part
from backprop_core.checkpoints.shards import Part, Shards
from backprop_core.clock import Clock
from backprop_core.errors import CheckpointWriteError
from backprop_core.ports.ranks import Ranks

LOOK_EVERY_S = 0.005
BEAT_EVERY_S = 2.0
PATIENCE_S = 30.0
"""A rank that writes says so every two seconds. One that has been silent for so long is gone."""


class ShardWriter:
    """Writes the parts of one rank.

    Args:
        directory: of the run's checkpoints; all ranks see it.
        name: of this attempt on the board.
    """

    def __init__(
        self, directory: Path, name: str, ranks: Ranks, translators: Sequence[Translator], clock: Clock
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._name = name
        self._ranks = ranks
        self._translators = translators
        self._buffers = StagingBuffers(translators)
        self._thread: threading.Thread | None = None
        self._newest: str | None = None

    def write(self, number: int, shards: Shards) -> None:
        """Copy `shards` and begin to write them, as part of the `number`-th checkpoint that was asked for.

        Raises:
            UnsavableStateError: one of them cannot be stored.
        """
        self.wait()
        copied = capture_shards(shards, self._translators).staged(self._buffers)
        self._thread = in_background(self._write, "backprop-shards", number, copied)

    def wait(self) -> None:
        """Return when nothing is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(self, number: int, copied: Snapshot) -> None:
        written = threading.Event()
        in_background(self._beat, "backprop-shards-beat", number, written)
        try:
            told = self._told_of(copied)
        finally:
            written.set()
        self._ranks.post(_key(self._name, number, self._ranks.rank), told)

    def _beat(self, number: int, written: threading.Event) -> None:
        """Tell again and again that this rank is at it, however long its disk takes."""
        beats = 0
        while not self._clock.wait(written, BEAT_EVERY_S):
            beats += 1
            try:
                self._ranks.post(_beat_key(self._name, number, self._ranks.rank), str(beats))
            except Exception:  # the board is gone, and with it whoever listens
                return

    def _told_of(self, copied: Snapshot) -> str:
        """Write the part; what the first rank is told of it."""
        if self._newest is not None:  # of a checkpoint that was not committed: else it has been moved
            leftovers.remove(self._directory / self._newest)
        try:
            part = write_part(self._directory, copied, self._ranks.rank)
            self._newest = part.folder
            files = {name: [facts.nbytes, facts.digest] for name, facts in part.files.items()}
            return json.dumps({"folder": part.folder, "files": files})
        except Exception as error:
            return json.dumps({"error": f"{type(error).__name__}: {error}"})


def parts_of_others(
    ranks: Ranks, name: str, number: int, clock: Clock, lost: Callable[[], bool]
) -> Sequence[Part]:
    """Wait for the parts of the `number`-th checkpoint that was asked for.

    Args:
        lost: whether it is known that another rank is gone.

    Raises:
        CheckpointWriteError: one rank could not write its part, or is gone.
    """
    parts = []
    for rank in range(1, ranks.count):
        said = json.loads(_told_by(ranks, name, number, rank, clock, lost))
        if "error" in said:
            raise CheckpointWriteError(
                f"Process {rank} could not write its part of the checkpoint: {said['error']}."
            )
        files = {file: FileFacts(nbytes, digest) for file, (nbytes, digest) in said["files"].items()}
        parts.append(Part(rank, said["folder"], files))
    return parts


def _told_by(ranks: Ranks, name: str, number: int, rank: int, clock: Clock, lost: Callable[[], bool]) -> str:
    """What a rank tells of its part, as soon as it does."""
    heard_at, last = clock.monotonic(), None
    looked_at = heard_at
    while (told := ranks.posted(_key(name, number, rank))) is None:
        now = clock.monotonic()
        if now - looked_at >= BEAT_EVERY_S:
            looked_at, beat = now, ranks.posted(_beat_key(name, number, rank))
            if beat != last:
                heard_at, last = now, beat
        if lost() or now - heard_at > PATIENCE_S:
            raise CheckpointWriteError(f"Process {rank} has not written its part of the checkpoint.")
        clock.sleep(LOOK_EVERY_S)
    return told


def _beat_key(name: str, number: int, rank: int) -> str:
    return f"{_key(name, number, rank)}/beat"


def _key(name: str, number: int, rank: int) -> str:
    return f"{name}/{number}/{rank}"
