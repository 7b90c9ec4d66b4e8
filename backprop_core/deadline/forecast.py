"""Observed durations in, upper bounds for the next ones out. Pure: it is told durations and reads no clock.

Method. The largest of the last n durations is a distribution-free upper bound: if durations are exchangeable, the next one
exceeds it with probability 1/(n + 1) (Wilks 1941, "Determination of sample sizes for setting tolerance limits", Annals of
Mathematical Statistics 12). Two things break exchangeability, and each has its answer: drift, by a window of the newest
32 and a margin of 10%; a lone outlier, which would cost many steps for the 32 that it stays in the window, by leaving it
out, since near the deadline the guard covers a step that takes too long. Long gaps that come in a rhythm (a validation
every k steps inside a loop that does not announce it) are not outliers: once seen twice at the same distance, the third
is expected.

Each phase has its own window: a plain step, the first step (compilation), the end of an epoch, a validation. Before
anything was seen, what earlier attempts of the run measured stands in.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any

from backprop_core.quick_dataclass import dataclass

WINDOW = 32
STEP_MARGIN = 1.1
LONE = 4.0
"""A single duration more than this many times the next largest is an outlier."""
SAVE_MARGIN = 1.12
WIDEST_SAVE_MARGIN = 1.5
SAVE_FLOOR_S = 0.03
FEW_SAVES = 3
FEW_SAVES_MARGIN = 0.38
FEW_SAVES_AT_MOST_S = 0.4
"""One save says little of the next: with fewer than three it may take this part of it longer, or these seconds."""
EXIT_PRIOR_S = 0.15
_MOST = 1e15
UNSEEN_WRITE_BYTES_PER_S = 200e6
"""A slow laptop disk with fsync; the first save replaces it."""


class Phase(StrEnum):
    """What lies between this boundary and the next."""

    PLAIN = "plain"
    FIRST = "first"
    EPOCH_END = "epoch_end"
    LOOP_END = "loop_end"
    """The code behind a loop of the script's own, which a resume could only enter with a loop that gives nothing."""
    VALIDATION = "validation"
    WITHIN_VALIDATION = "within_validation"
    """One batch of a validation that may be left before its end."""


@dataclass(slots=True)
class DurationWindow:
    """The newest durations of one kind.

    Attributes:
        recent: seconds, newest last.
        prior_s: what to believe before anything was seen.
    """

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    prior_s: float = 0.0
    _first: float = 0.0
    _second: float = 0.0

    def observe(self, seconds: float) -> None:
        """Take in one duration; keeps the two longest at hand, since they are asked for at every boundary."""
        full = len(self.recent) == WINDOW
        leaving = self.recent[0] if full else 0.0
        self.recent.append(seconds)
        if (full and leaving >= self._second) or len(self.recent) <= 2:
            longest = heapq.nlargest(2, self.recent)
            self._first, self._second = longest[0], longest[-1]
        elif seconds > self._first:
            self._first, self._second = seconds, self._first
        elif seconds > self._second:
            self._second = seconds

    def longest(self) -> float:
        """The longest of the window without a lone outlier; the prior before anything was seen. Seconds."""
        if not self.recent:
            return self.prior_s
        lone = len(self.recent) >= 4 and self._first > LONE * self._second
        return self._second if lone else self._first


@dataclass(slots=True)
class Rhythm:
    """Long gaps that return after the same number of steps."""

    at: deque[int] = field(default_factory=lambda: deque(maxlen=3))
    length_s: float = 0.0

    def observe(self, step: int, seconds: float) -> None:
        self.at.append(step)
        self.length_s = max(seconds, 0.5 * self.length_s)

    def due_s(self, next_step: int, stride: int) -> float:
        """Seconds of the long gap expected among the next `stride` steps, or 0."""
        if len(self.at) < 3:
            return 0.0
        first, second, third = self.at
        period = third - second
        if period <= 0 or abs((second - first) - period) > max(1, stride):
            return 0.0
        return self.length_s if 0 <= third + period - next_step <= max(1, stride) else 0.0


@dataclass(slots=True)
class Forecast:
    """Upper bounds for everything that must still fit before the deadline.

    Attributes:
        came_share: of the steps that the last box was forecast, the part that came; what is told of the future is cut by it.
    """

    phases: dict[Phase, DurationWindow] = field(
        default_factory=lambda: {phase: DurationWindow() for phase in Phase}
    )
    rhythm: Rhythm = field(default_factory=Rhythm)
    saves: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=6))
    saves_seen: int = 0
    prior_saves: tuple[tuple[int, float], ...] = ()
    exits: deque[float] = field(default_factory=lambda: deque(maxlen=4))
    step: int = 0
    stride: int = 1
    came_share: float = 1.0

    def observe_gap(self, phase: Phase, seconds: float, steps: int = 1) -> None:
        """From one look to the next `seconds` passed and `steps` boundaries.

        A block of very short steps is told as one gap: its length bounds each step in it.
        """
        self.step += steps
        self.stride = max(1, steps)
        window = self.phases[phase]
        if phase is Phase.PLAIN and len(window.recent) >= 4 and seconds > LONE * window.longest():
            self.rhythm.observe(self.step, seconds)
            if self.rhythm.due_s(self.step, self.stride * 2):
                return
        window.observe(seconds)

    def observe_save(self, nbytes: int, seconds: float) -> None:
        """A synchronous or background save of `nbytes` bytes took `seconds`."""
        self.saves.append((nbytes, seconds))
        self.saves_seen += 1

    def gap_bound_s(self, phase: Phase) -> float:
        """Upper bound for the time to the next boundary, in seconds."""
        plain_s = self.longest_step_s()
        if phase is Phase.PLAIN:
            return STEP_MARGIN * max(plain_s, self.rhythm.due_s(self.step + 1, self.stride))
        return STEP_MARGIN * max(self.phases[phase].longest(), plain_s)

    def save_bound_s(self, nbytes: int) -> float:
        """Upper bound for a synchronous save of `nbytes` bytes, in seconds."""
        seen = list(self.saves) or list(self.prior_saves)
        if not seen:
            return nbytes / UNSEEN_WRITE_BYTES_PER_S + 0.1
        scaled = [seconds * max(1.0, nbytes / max(1, size)) for size, seconds in seen]
        longest, shortest = max(scaled), min(scaled)
        spread = (longest - shortest) / longest if longest > 0 else 0.0
        margin = min(max(SAVE_MARGIN, 1.0 + 1.2 * spread), WIDEST_SAVE_MARGIN)  # a disk that varies gets more
        return margin * longest + SAVE_FLOOR_S

    def unsure_save_s(self, nbytes: int) -> float:
        """By how much more than `save_bound_s` a save may take while few were seen, in seconds; 0 before the first."""
        if not 0 < len(self.saves) < FEW_SAVES:
            return 0.0
        return min(FEW_SAVES_MARGIN * self.save_likely_s(nbytes), FEW_SAVES_AT_MOST_S) / len(self.saves)

    def save_likely_s(self, nbytes: int) -> float:
        """What a save of `nbytes` bytes took at most so far, without a margin, in seconds."""
        return (
            self.save_bound_s(nbytes) / WIDEST_SAVE_MARGIN
            if not self.saves
            else max(seconds * max(1.0, nbytes / max(1, size)) for size, seconds in self.saves)
        )

    def exit_bound_s(self) -> float:
        """Upper bound for the time from the end of the save to the end of the process, in seconds."""
        return max(self.exits) * 1.05 + 0.05 if self.exits else EXIT_PRIOR_S

    def longest_step_s(self) -> float:
        """The longest recent plain step, in seconds. While only the first step was seen, it bounds a wrong prior."""
        plain, first = self.phases[Phase.PLAIN], self.phases[Phase.FIRST]
        if not plain.recent and first.recent:
            return min(plain.prior_s or first.longest(), first.longest())
        return plain.longest()

    def measured(self) -> dict[str, Any]:
        """What the next attempt should know, as plain JSON."""
        return {
            "longest_s": {phase.value: w.longest() for phase, w in self.phases.items() if w.recent},
            "saves": [list(pair) for pair in self.saves],
        }

    def learn(self, earlier: Mapping[str, Any]) -> None:
        """Take what an earlier attempt measured as the prior. Ill-formed parts are left out."""
        longest = earlier.get("longest_s")
        for phase, window in self.phases.items():
            if isinstance(longest, Mapping) and _is_duration(longest.get(phase.value)):
                window.prior_s = float(longest[phase.value])
        saves = earlier.get("saves")
        if isinstance(saves, list):
            pairs = [p for p in saves if isinstance(p, list) and len(p) == 2 and all(map(_is_duration, p))]
            self.prior_saves = tuple((int(size), float(seconds)) for size, seconds in pairs)
        forecast, came = earlier.get("steps_forecast"), earlier.get("steps_that_came")
        if _is_duration(forecast) and _is_duration(came) and forecast:
            self.came_share = min(max(float(came) / float(forecast), 0.1), 1.0)  # type: ignore[arg-type]
        exit_s = earlier.get("exit_s")
        if _is_duration(exit_s):
            self.exits.append(float(exit_s))  # type: ignore[arg-type]


def _is_duration(value: object) -> bool:
    """A number of seconds or bytes that can be meant; a record may hold anything."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST
