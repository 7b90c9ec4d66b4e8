"""What a session asks of the adapter whose training it governs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from backprop_core.checkpoints.arrays import Translator
from backprop_core.prove.witness import Witness
from backprop_core.quick_dataclass import dataclass
from backprop_core.script_state.unkept import Unkept


@dataclass(frozen=True, slots=True)
class Position:
    """Where training is at a boundary. `cursor` is whatever the adapter needs to find back, as plain JSON; `epoch` is None
    for a loop that has told none.
    """

    step: int
    epoch: int | None = None
    batch: int = 0
    cursor: Any = None


class TrainingState(Protocol):
    """What a session asks of its adapter."""

    translators: Sequence[Translator]

    def states(self) -> Mapping[str, object]:
        """All that a checkpoint has to hold, by name, without copying."""
        ...

    def position(self) -> Position: ...

    def witness(self) -> Witness:
        """What a proof looks at: live objects, whether a checkpoint would hold them or not."""
        ...

    def unkept(self) -> Sequence[Unkept]:
        """What the script changes and the states last taken do not hold."""
        ...

    def environment(self) -> Mapping[str, Any]:
        """Versions and flags that exactness depends on."""
        ...

    def window_rest_s(self, step_s: float) -> float:
        """Seconds until the open accumulation window ends, for steps of `step_s`; 0 if none is open."""
        ...

    def total_steps(self) -> int | None:
        """How many steps the whole training has, where it is known."""
        ...

    def learning_rate(self) -> float | None:
        """That of the optimizer, for the coming step; None where it is not known or dear to read. Asked once a second."""
        ...

    def synchronize(self) -> None:
        """Wait for the accelerator."""
        ...
