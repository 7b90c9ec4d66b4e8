"""An attempt's place in the store: which run it is of, where its checkpoints go, who writes its record."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.errors import BackpropError
from backprop_core.events.kinds import Ended
from backprop_core.outcome import Outcome
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.attempt import Attempt
from backprop_core.runs.hold import RunHold
from backprop_core.runs.locks import FileLock
from backprop_core.runs.store import RunStore

_completed: dict[str, int] = {}
"""How many trainings of a run, by its folder, this process has completed without a governor."""


def completed_before(hold: RunHold, *, anew: bool) -> int:
    """How many trainings of the run this process has completed; with `anew` they do not count any more."""
    if anew:
        _completed.pop(str(hold.run_dir), None)
    return _completed.get(str(hold.run_dir), 0)


@dataclass(slots=True)
class Enrolment:
    """An attempt's place in the store.

    Attributes:
        run_id: the run.
        attempt: the attempt's folder, events and control file.
        checkpoints: where its checkpoints go.
        resume_from: a checkpoint asked for by path, or None.
        resuming: whether the newest checkpoint of the run is to be restored.
        earlier: what earlier attempts measured, oldest first.
        governed: a governor outside writes the record.
        box: 1 for the first box of the process in this run, 2 for the next.
        completed: the run was completed when this attempt began.
        notes: sentences for the user.
    """

    run_id: str
    attempt: Attempt
    checkpoints: CheckpointStore
    resume_from: str | None
    resuming: bool
    earlier: list[Mapping[str, Any]]
    governed: bool
    box: int = 1
    completed: bool = False
    notes: list[str] = field(default_factory=list)
    store: RunStore | None = None
    hold: RunHold | None = None
    session_lock: FileLock | None = None

    def remember(self, path: str) -> None:
        """Write a new checkpoint into the record, where nobody outside does."""
        if self.store is not None and self.hold is not None:
            with contextlib.suppress(Exception):  # the checkpoint is found by a scan all the same
                self.store.remember_checkpoint(self.hold, path)

    def finish(self, outcome: Outcome, reason: str, ended: Ended | None = None) -> str:
        """Write the attempt's end into the record, where nobody outside does, and let the run go.

        Args:
            ended: what the session has measured; None where it never opened.

        Returns:
            One sentence where it could not be written, else nothing. The training is over and the script's own code comes
            next, so no error of our records leaves here.
        """
        try:
            if self.store is not None and self.hold is not None:
                self.store.finish_attempt(
                    self.hold,
                    self.attempt.number,
                    outcome=outcome,
                    reason=reason,
                    measured={} if ended is None else ended.measured,
                    steps=None if ended is None else ended.steps,
                    last_step=None if ended is None else ended.step,
                    last_loss=None if ended is None else ended.loss,
                    last_checkpoint=None if ended is None else ended.checkpoint,
                )
                if outcome is Outcome.COMPLETED:
                    _completed[str(self.hold.run_dir)] = self.box
        except Exception as error:
            what = str(error) if isinstance(error, BackpropError) else f"{type(error).__name__}: {error}"
            return f"The end of this attempt could not be recorded: {what}"
        finally:
            with contextlib.suppress(OSError):
                self.release()
        return ""

    def release(self) -> None:
        self.attempt.events.close()
        if self.hold is not None:
            self.hold.release()
            self.hold = None
        if self.session_lock is not None:
            self.session_lock.release()
            self.session_lock = None
