"""The smallest adapter: a counter as the state, for tests of the session and as a pattern for plugins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backprop_core.checkpoints.arrays import Translator
from backprop_core.prove.witness import Witness
from backprop_core.script_state.unkept import Unkept
from backprop_core.session.training_state import Position


class CountingState:
    """Trains by counting.

    Attributes:
        step: the whole state.
        extra: a value that is saved with it, to try what cannot be stored.
        window_s: what it says of an open accumulation window.
        total: steps of the whole training, or None.
    """

    translators: Sequence[Translator] = ()

    def __init__(self, total: int | None = None) -> None:
        self.step = 0
        self.extra: object = None
        self.window_s = 0.0
        self.total = total

    def states(self) -> Mapping[str, object]:
        return {"counter": {"step": self.step, "extra": self.extra}}

    def witness(self) -> Witness:
        return Witness(values={"counter": self.step})

    def unkept(self) -> Sequence[Unkept]:
        return ()

    def position(self) -> Position:
        return Position(self.step)

    def environment(self) -> Mapping[str, Any]:
        return {"counting": 1}

    def window_rest_s(self, step_s: float) -> float:
        return self.window_s

    def total_steps(self) -> int | None:
        return self.total

    def learning_rate(self) -> float | None:
        return None

    def synchronize(self) -> None:
        pass
