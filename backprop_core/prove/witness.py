"""What an adapter lets `backprop prove` look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from backprop_core.quick_dataclass import dataclass
from backprop_core.script_state.state import Root, ScriptState


@dataclass(frozen=True, slots=True)
class Witness:
    """Live objects, never copies; whether a checkpoint would hold them does not matter.

    Attributes:
        script: the walk over the script's own state.
        roots: further objects to look into, such as model, optimizer and scheduler.
        values: states of plain values and arrays, by name.
        belongs_to_attempt: whether an object is left alone, such as a running iterator or a part of the framework.
    """

    script: ScriptState | None = None
    roots: Sequence[Root] = ()
    values: Mapping[str, object] = field(default_factory=dict)
    belongs_to_attempt: Callable[[object], bool] = lambda value: False
