"""The script around a framework's Trainer: its globals, and the locals of its functions between `__main__` and the call that
trains.

A Trainer counts its own loop and none of the script's, so an iterator over a loader in a variable is named if it moves.
What runs inside that call comes and goes, a hook or a loss function of the script's among it, so it is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import FrameType

from backprop_core.loop.script_watch import script_namespaces
from backprop_core.script_state.namespace import Namespace


class TrainerFrames:
    """Finds them anew each time, since a frame that is held keeps everything alive that it holds.

    Args:
        modules: beginnings of names of the modules that define the call.
        call: its name, such as `fit`.
    """

    def __init__(self, modules: Sequence[str], call: str) -> None:
        self._modules = tuple(modules)
        self._call = call

    def namespaces(self) -> list[Namespace]:
        """Those around the innermost such call that is running in this thread; where it is over, as it is for the last
        checkpoint of a training that is complete, or another process has entered it, those around this.
        """
        here = sys._getframe(1)
        call = _frame_of(here, self._is_call)
        return script_namespaces(here if call is None else call.f_back, loops_counted=False)

    def _is_call(self, frame: FrameType) -> bool:
        if frame.f_code.co_name != self._call:
            return False
        return str(frame.f_globals.get("__name__", "")).startswith(self._modules)


def _frame_of(frame: FrameType | None, wanted: Callable[[FrameType], bool]) -> FrameType | None:
    while frame is not None and not wanted(frame):
        frame = frame.f_back
    return frame
