"""Whether the ranks of a training whose loops are counted stand at the same place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backprop_core.errors import UnsavableStateError
from backprop_core.loop.loop_state import LOOPS
from backprop_core.loop.script_steps import COUNTED


def check_places(parts: Any) -> None:
    """Compare what each rank has told of its loops; how far each is in its own data may differ.

    Raises:
        UnsavableStateError: they stand in different loops, or have counted different steps, so they would not find together
            again.
    """
    if not isinstance(parts, list):
        return
    first = _place(parts[0])
    for rank, part in enumerate(parts):
        there = _place(part)
        if there != first:
            raise UnsavableStateError(
                f"Process {rank} is {_in_words(there)}, and the first process is {_in_words(first)}: not saved."
            )


def _place(part: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
    return int(part[LOOPS]["step"]), tuple(str(loop["where"]) for loop in part[COUNTED]["loops"])


def _in_words(place: tuple[int, tuple[str, ...]]) -> str:
    step, loops = place
    return f"at step {step} in the loop at {loops[-1]}" if loops else f"at step {step} outside all loops"
