"""One attempt as the guard, the hands and the report of a session see it, so that none of them knows `Session`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from backprop_core.checkpoints.manifest import CheckpointFacts, CheckpointInfo
from backprop_core.checkpoints.store import Loaded
from backprop_core.clock import Clock
from backprop_core.deadline.budget import Deadlines
from backprop_core.deadline.forecast import Forecast
from backprop_core.deadline.pacing import Pacer
from backprop_core.outcome import Outcome, SaveReason
from backprop_core.session.enrolment import Enrolment
from backprop_core.session.messages import LogValues, Messages
from backprop_core.session.requests import Requests
from backprop_core.session.saver import Saver
from backprop_core.session.settings import SessionSettings
from backprop_core.session.training_state import TrainingState


class RunningAttempt(Protocol):
    """See `Session`, which is one.

    Attributes:
        wake: instant on the monotonic clock before which a boundary has nothing to look at; 0: look at the next one.
    """

    clock: Clock
    settings: SessionSettings
    training_state: TrainingState
    enrolment: Enrolment
    deadlines: Deadlines
    forecast: Forecast
    pacer: Pacer
    saver: Saver
    requests: Requests
    messages: Messages
    logged: LogValues
    environment: dict[str, Any]
    restored: Loaded | None
    outcome: Outcome
    reason: str
    wake: float

    @property
    def copies_are_saves(self) -> bool:
        """Whether a state cannot be copied here for the case that it is needed: other processes hold parts of it."""
        ...

    def copies_of_all_ranks(self) -> AbstractContextManager[bool]:
        """See `Session`."""
        ...

    @property
    def run_id(self) -> str: ...

    @property
    def resumed_from(self) -> str | None: ...

    @property
    def checkpoint(self) -> CheckpointInfo | None:
        """The newest: of this attempt, or the one that was restored."""
        ...

    @property
    def steps(self) -> int: ...

    @property
    def reserve_kept_s(self) -> float | None: ...

    def steps_made(self) -> int: ...

    def remaining_s(self) -> float: ...

    def checkpoint_facts(self, reason: SaveReason) -> CheckpointFacts: ...

    def name_unkept(self, *, insist: bool = True) -> None: ...
