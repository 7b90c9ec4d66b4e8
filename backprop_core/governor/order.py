"""What a governor is asked to run, and who watches it."""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from backprop_core.governor.observed import Line, View
from backprop_core.governor.signals import WARNINGS
from backprop_core.quick_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Order:
    """What to run, and within what.

    Args:
        argv, cwd, env: of the script.
        attempt_dir: the attempt's folder; exists.
        deadline: instant on the monotonic clock; infinity for none.
        budget_s: seconds from the start to the deadline.
        grace_s: seconds between asking and killing.
        box_end: where the deadline would be without a job; None: there as well.
        fixed_end: instant on the monotonic clock that no pause and no extension puts off: the end of the scheduler's job.
        warnings: signals by which a scheduler warns; others of their kind are passed on to the script.
        session_dir: where the session writes its events, if that is another task's process; None: in `attempt_dir`.
    """

    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    attempt_dir: Path
    deadline: float
    budget_s: float
    grace_s: float
    box_end: float | None = None
    fixed_end: float = math.inf
    warnings: frozenset[signal.Signals] = WARNINGS
    session_dir: Path | None = None


class Observer(Protocol):
    """Who watches a governor: the command line's display."""

    def before_output(self, data: bytes = b"\n") -> None:
        """Something of the script's is about to be shown; without `data` it may be anything."""

    def after_output(self, at_line_start: bool) -> None:
        """Something of the script's has been shown where our own lines stand."""

    def event(self, event: Line) -> None:
        """The session inside the script has said something."""

    def say(self, text: str) -> None:
        """The governor has something to tell: one sentence."""

    def tick(self, view: View) -> None:
        """Four times a second: how things stand."""
