"""The script's threads that read loaders ahead of training, of all frameworks together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from backprop_core.ports.loaders import LoaderPasses, RandomnessKeeper, ReadsAhead
from backprop_core.script_state.unkept import Unkept

_THREADS: Final = "backprop.threads"


class ReadAhead:
    """Stops them while state is taken or put back, and is a part of it.

    Args:
        passes: what the frameworks remember of passes over loaders; more may be added.
    """

    def __init__(self, passes: Sequence[LoaderPasses]) -> None:
        self._passes = passes

    def _all(self) -> list[ReadsAhead]:
        return [one.threads for one in self._passes if one.threads is not None]

    @contextmanager
    def still(self) -> Iterator[None]:
        """Inside, they make nothing."""
        with ExitStack() as stack:
            for one in self._all():
                stack.enter_context(one.still())
            yield

    def part(self) -> dict[str, Any]:
        """Their part of a checkpoint."""
        found = [state for one in self._all() for state in one.capture()]
        return {_THREADS: found} if found else {}

    def unkept(self) -> list[Unkept]:
        """What of that does not come back."""
        return [named for one in self._all() for named in one.unkept()]

    def holds(self, value: object) -> bool:
        """Whether `value` is an iterator over a loader, or a queue whose content is in that part: it finds its place so."""
        made = any(one.made_by(value) is not None for one in self._passes)
        return made or any(one.holds(value) for one in self._all())

    def expect(self, states: Mapping[str, Any]) -> None:
        """A checkpoint is going to be put back."""
        if states.get(_THREADS):
            for one in self._all():
                one.expect()

    def restore(self, states: Mapping[str, Any], randomness: RandomnessKeeper) -> list[str]:
        """Have them go on where they stood, once they are released; what could not be put back, and why."""
        saved = states.get(_THREADS, [])
        return [missing for one in self._all() for missing in one.restore(saved, randomness)]

    def release(self) -> None:
        """Everything is in its place, or will not be."""
        for one in self._all():
            one.release()
