"""Whether a chain of boxes gets anywhere: what each box has left behind, and where it began."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from backprop_cli.checkpoints import is_remote
from backprop_cli.matching import State, state_of
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.measured import read_measured
from backprop_core.runs.record import RunRecord

LOOKED_AT = 20
"""The newest checkpoints of a run; older ones do not change any more."""
BOXES_FROM_ONE_PLACE = 3
"""So many boxes that all began at the same step, or before it, are a chain that never ends. Two may be chance: a script
that trains twice counts anew the second time.
"""

_VAIN = "This box made no progress, and another would not either: make it longer with -m."


@dataclass(frozen=True, slots=True)
class Gained:
    """What a run has at one moment; two that are equal are the same progress.

    Attributes:
        step: the last one that is known, or None.
        files: checkpoints by path, with what tells that one was written again; None for what cannot be looked at.
    """

    step: int | None
    files: Mapping[str, State | None]

    @staticmethod
    def of(record: RunRecord) -> Gained:
        return Gained(record.last_step, {path: _state(path) for path in record.checkpoints[-LOOKED_AT:]})

    def beyond(self, earlier: Gained) -> bool:
        """Whether anything has come since `earlier`: a step, or a checkpoint that is new or was written again."""
        if self.step is not None and (earlier.step is None or self.step > earlier.step):
            return True
        return any(
            path not in earlier.files or earlier.files[path] != state for path, state in self.files.items()
        )


class ChainProgress:
    """Looks at a run after each of its boxes.

    Args:
        record: the run before the first box of this chain.
    """

    def __init__(self, record: RunRecord) -> None:
        self._gained = Gained.of(record)
        self._began: list[int] = []

    def after_box(self, record: RunRecord) -> str:
        """A sentence if another box would be in vain, else the empty string."""
        earlier, self._gained = self._gained, Gained.of(record)
        if not self._gained.beyond(earlier):
            return _VAIN
        began = began_at(record)
        if began is None or (self._began and began > self._began[-1]):
            self._began = []
        if began is not None:
            self._began.append(began)
        if len(self._began) < BOXES_FROM_ONE_PLACE:
            return ""
        return (
            f"The last {len(self._began)} boxes all started at step {began}, so this chain makes no progress: the script "
            "starts over each time, or needs longer than a box to reach its next checkpoint (make the boxes longer with -m)."
        )


def began_at(record: RunRecord) -> int | None:
    """The step at which the last attempt began: by its session's count, else the first that the script printed."""
    attempt = record.last_attempt
    if attempt is None:
        return None
    if attempt.steps is not None and record.last_step is not None:
        return max(0, record.last_step - attempt.steps)
    governor = read_measured(attempt.measured).governor
    return None if governor is None else governor.first_step


def _state(path: str) -> State | None:
    if is_remote(path):
        return None
    try:
        return state_of(Path(path))
    except OSError:
        return None
