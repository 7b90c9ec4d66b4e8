"""A fit on a rank that is not the first: it does what the first one says, at the boundaries that both come to."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from backprop_core.checkpoints.store import Loaded
from backprop_core.clock import Clock
from backprop_core.deadline.budget_progress import budget_progress
from backprop_core.deadline.forecast import Phase
from backprop_core.errors import UsageError
from backprop_core.outcome import Outcome
from backprop_core.session.attach_rules import session_opens
from backprop_core.session.find_checkpoint import load_path
from backprop_core.session.proof import recorder_of
from backprop_core.session.rank_talk import Opening
from backprop_core.session.ranks_error import all_or_none
from backprop_core.session.scripts_checkpoint import ScriptsCheckpoint
from backprop_core.session.signal_watch import SignalWatch
from backprop_lightning.patches import PatchedFit
from backprop_torch.ranks import Together


class FollowingFit(PatchedFit):
    """Hears signals, gives its part of a save, and leaves when it is told to."""

    def __init__(self, trainer: Any, clock: Clock, ranks: Together) -> None:
        super().__init__(trainer, ranks, clock)
        self._together = ranks
        self._opening = Opening()
        self._loaded: Loaded | None = None
        self._outcome = Outcome.RUNNING
        self._told = Outcome.PREEMPTED
        self._countdown = 0
        self._proves = recorder_of() is not None  # then the ranks talk at every boundary
        self._signals = SignalWatch(clock.monotonic, lambda: None)

    @property
    def outcome(self) -> Outcome:
        return self._outcome

    @property
    def run_id(self) -> str:
        return self._opening.run_id

    @property
    def checkpoint(self) -> Path | None:
        return self.resumed_from  # the first rank knows of newer ones

    @property
    def resumed_from(self) -> Path | None:
        path = self._opening.resumed_from
        return None if path is None else Path(path)

    @property
    def governed(self) -> bool:
        return self._opening.governed

    def remaining_s(self) -> float:
        return max(0.0, self._opening.until - self.clock.wall())

    def progress(self) -> float:
        """As far as this rank knows: the first one keeps a reserve besides."""
        return budget_progress(self._opening.budget_s, os.environ, self.clock).share(
            self.clock.monotonic(), self.remaining_s()
        )

    def progress_at(self, step: int, name: str, replay: str | None, owner: object = None) -> float:
        """The first rank records."""
        return self.progress()

    def restored(self) -> Loaded | None:
        return self._loaded

    def begins_with(self, theirs: ScriptsCheckpoint) -> None:
        self._opening = replace(self._opening, resumed_from=theirs.path)
        if self._loaded is not None:
            self._loaded.states.clear()

    def tell(self, text: str) -> None:
        """The first rank talks."""

    def open(self) -> None:
        """Hear what the first rank has found, and load the same checkpoint, verified here as well.

        Raises:
            UsageError: the first rank could not open its session.
            CheckpointError: the checkpoint cannot be read from this rank.
            RankError: it cannot be read from another one.
        """
        session_opens()
        self._opening = self._together.share(None)
        if self._opening.error:
            raise UsageError(f"The first rank could not open the box: {self._opening.error}")
        all_or_none(self._together, self._read_checkpoint)
        self._signals.start()
        self.patch()

    def _read_checkpoint(self) -> None:
        path = self._opening.resumed_from
        if path is not None:
            self._loaded = load_path(path, self.training_state.translators, self.tell)

    def rest(self) -> None:
        self._signals.stop()

    def listen(self, users: Any) -> None:
        self._signals.start()

    def due(self) -> bool:
        self._countdown -= 1
        return self._countdown <= 0 or self._proves

    def boundary(self, steps: int, *, phase: Phase = Phase.PLAIN, then: Phase | None = None) -> bool:
        """Take part in what the first rank does at this boundary, until it lets go."""
        self._together.hear(int(self._signals.received or 0))
        return self._follow()

    def _follow(self) -> bool:
        leave, self._countdown, self._told = self._together.follow(self._give)
        return leave

    def _give(self) -> Any:
        self.training_state.lightning()  # hooks that save may talk to the other ranks
        return self.training_state.own()

    def signalled(self) -> bool:
        return self._signals.received is not None

    def least(self, number: int) -> int:
        return self._together.least(number)

    def took(self, phase: Phase, seconds: float) -> None:
        """The first rank measures."""

    def arrived(self) -> None:
        """Nothing is to be told."""

    def completed(self) -> None:
        self._together.hear(0)
        self._follow()
        self.close(Outcome.COMPLETED, "")

    def leaving_outcome(self) -> Outcome:
        return self._told

    def close(self, outcome: Outcome, reason: str) -> None:
        if self._outcome is Outcome.RUNNING:
            self._outcome = outcome
            self._signals.stop()
            self.unpatch()

    def step_aside(self, error: Exception) -> None:
        self._signals.stop()
