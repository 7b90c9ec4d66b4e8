"""A fit on a rank that is not the first: it hears signals, gives its part of a save, and leaves when it is told to."""

from __future__ import annotations

from typing import Any

from backprop_core.clock import Clock
from backprop_core.deadline.forecast import Phase
from backprop_core.session.other_ranks import FollowingSession
from backprop_core.session.settings import SessionSettings
from backprop_lightning.patches import PatchedFit
from backprop_torch.ranks import Together


class FollowingFit(PatchedFit):
    """Takes part in what the first rank does."""

    session: FollowingSession

    def __init__(self, settings: SessionSettings, trainer: Any, clock: Clock, ranks: Together) -> None:
        super().__init__(settings, trainer, clock, ranks)
        self._countdown = 0

    def rest(self) -> None:
        self.session.signals.stop()

    def listen(self, users: Any) -> None:
        self.session.signals.start()

    def due(self) -> bool:
        self._countdown -= 1
        return self._countdown <= 0 or self.session.recorder is not None  # a proof looks at every boundary

    def boundary(self, steps: int, *, phase: Phase = Phase.PLAIN, then: Phase | None = None) -> bool:
        leave = self.session.talk()
        self._countdown = self.session.boundaries_to_next_talk
        return leave

    def signalled(self) -> bool:
        return self.session.signals.received is not None
