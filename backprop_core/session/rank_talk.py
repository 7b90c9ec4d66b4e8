"""What the sessions of several processes tell each other, and when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from backprop_core.checkpoints.shards import OtherParts, Shards
from backprop_core.deadline.forecast import Phase
from backprop_core.quick_dataclass import dataclass
from backprop_core.session.training_state import TrainingState

if TYPE_CHECKING:
    from backprop_core.session.session import Session

NOTICE = 1 << 20
"""In place of the number of a signal: a rank cannot go on in the box."""


class SharedTrainingState(TrainingState, Protocol):
    """What a session asks of an adapter whose training runs in several processes.

    Attributes:
        processes: how many there are.
        other_ranks: asks the others for their part of the state, given this one's; `states` puts the answer under
            `rank_parts.RANKS`. None where it is not the time for it.
    """

    processes: int
    other_ranks: Callable[[Mapping[str, object]], list[Any]] | None
    other_shards: Callable[[], OtherParts] | None

    def is_spread(self) -> bool:
        """Whether arrays are trained of which each process holds a part."""
        ...

    def shards(self) -> Shards:
        """What this process holds of them."""
        ...

    def own_part(self) -> dict[str, object]:
        """What of the state is another in each process."""
        ...


@dataclass(frozen=True, slots=True)
class Opening:
    """What the first rank tells the others when its session is open.

    Attributes:
        error: why it is not, or empty.
        resumed_from: the checkpoint to go on from.
        left_s: seconds to the deadline as this is told: clocks of hosts differ.
        directory: where checkpoints go.
        name: of this attempt, where ranks leave word for each other.
        budget_s: seconds of the whole box.
        attempt, attempt_directory: of the run, and where its governor can be found.
    """

    error: str = ""
    resumed_from: str | None = None
    run_id: str = ""
    left_s: float = 0.0
    governed: bool = False
    directory: str = ""
    name: str = ""
    budget_s: float = 0.0
    attempt: int = 0
    attempt_directory: str = ""


def opening_of(session: Session) -> Opening:
    """What the first rank's session, which is open now, tells the others."""
    attempt = session.enrolment.attempt
    return Opening(
        resumed_from=session.resumed_from,
        run_id=session.run_id,
        left_s=session.remaining_s(),
        governed=session.governed,
        directory=str(session.enrolment.checkpoints.directory),
        name=session.group,
        budget_s=session.deadlines.budget_s,
        attempt=attempt.number,
        attempt_directory=str(attempt.directory),
    )


@dataclass(slots=True)
class Countdown:
    """Boundaries until the ranks talk; each rank counts the same."""

    left: int = 0

    def is_over(self, phase: Phase, then: Phase | None) -> bool:
        """Count a boundary. What is longer than a step is not begun without a talk."""
        self.left -= 1
        return self.left <= 0 or phase is not Phase.PLAIN or then is not None


def pause_key(name: str) -> str:
    """Where the first rank of the attempt `name` leaves word that it is paused."""
    return f"{name}/paused"
