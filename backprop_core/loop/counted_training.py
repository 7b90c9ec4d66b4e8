"""Who is told what counted loops do."""

from __future__ import annotations

from collections.abc import Iterable
from types import FrameType
from typing import Any, Protocol

from backprop_core.loop.running_loop import EndedLoop, RunningLoop
from backprop_core.script_state.rewrite import Site


class CountedTraining(Protocol):
    """Who is told what the loops do."""

    alarm: Any
    """Its `wake` is the instant (monotonic) from which on a boundary must be told."""

    def loop_is_met(self, site: Site, frame: FrameType) -> None:
        """A loop is about to begin; it has not been matched with an earlier attempt's yet."""
        ...

    def loop_opens(self, loop: RunningLoop, frame: FrameType) -> None:
        """Before the iterable of `loop` is made."""
        ...

    def begun(self, loop: RunningLoop, source: Any) -> Iterable[Any]:
        """The items of `loop`, from where it is to begin."""
        ...

    def entered(self, loop: RunningLoop, frame: FrameType) -> None:
        """Just before the first item; a loop that goes on from a checkpoint is in the stack now."""
        ...

    def entered_late(self, loop: RunningLoop, frame: FrameType) -> None:
        """Behind the first iteration of a loop that is `late`."""
        ...

    def boundary(self, loop: RunningLoop, frame: FrameType) -> None:
        """Between two iterations of `loop`, when it is time."""
        ...

    def iteration_begins(self, loop: RunningLoop, frame: FrameType) -> None:
        """The next iteration of a loop that holds other training loops."""
        ...

    def passed_over(self, ended: EndedLoop, frame: FrameType) -> None:
        """A loop that was over is left out."""
        ...

    def ended(self, loop: RunningLoop, frame: FrameType | None) -> Any:
        """A loop has ended; what is to be kept of its effect."""
        ...

    def may_begin_in_a_child(self) -> bool:
        """Whether no session is open here, so that a child that is forked may train."""
        ...

    def takes_turns(self, loop: RunningLoop) -> None:
        """`loop` goes on although another one that is not inside it has gone on in the meantime."""
        ...

    def lost(self, key: str) -> None:
        """The loop that was to go on did not begin."""
        ...
