"""When an attempt was held up, as its governor tells, or where there is none its session."""

from __future__ import annotations

from pathlib import Path

from backprop_core.events.kinds import Continued, Paused
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.attempt import EVENTS_FILE, GOVERNOR_FILE
from backprop_core.runs.events import read_kinds
from backprop_core.strict_json import as_instant


@dataclass(frozen=True, slots=True)
class Pauses:
    """The times in which an attempt did not train.

    Attributes:
        since_wall: when the pause began that lasts still, seconds since 1970; None where none does.
        over_s: seconds of all those that are over.
    """

    since_wall: float | None = None
    over_s: float = 0.0

    def until(self, wall: float) -> float:
        """Seconds of all pauses up to an instant, seconds since 1970."""
        return self.over_s + (0.0 if self.since_wall is None else max(0.0, wall - self.since_wall))


def pauses_of(attempt_dir: Path) -> Pauses:
    """The pauses of an attempt that goes on. A governor's word goes before its session's, which pauses for it."""
    kinds = (Paused.kind, Continued.kind)
    told = read_kinds(attempt_dir / GOVERNOR_FILE, kinds) or read_kinds(attempt_dir / EVENTS_FILE, kinds)
    since, over_s = None, 0.0
    for event in told:
        wall = as_instant(event.get("wall"))
        if wall is None:
            continue
        if event["kind"] == Paused.kind:
            since = since or wall
        elif since is not None:
            over_s += max(0.0, wall - since)
            since = None
    return Pauses(since, over_s)
