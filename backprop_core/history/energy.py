"""Energy out of what was read once a second: watts of GPUs, joules that processors have counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from backprop_core.quick_dataclass import dataclass

LONGEST_GAP_S = 10.0
"""Between two readings that are further apart nothing is known of the power."""
MEASURED_FROM = 0.95
"""With readings for so much of the time the energy counts as measured, with fewer as estimated."""
_J_PER_WH = 3600.0


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy that was taken while a run went on.

    Attributes:
        watt_hours: as measured where `measured`, else with the mean power for the time without readings.
        measured: there were readings for nearly all of the time.
        share: of the time for which there were readings, 0 to 1.
    """

    watt_hours: float
    measured: bool
    share: float

    @property
    def word(self) -> str:
        """How it is known."""
        return "measured" if self.measured else f"estimated, with readings for {self.share:.0%} of the time"


@dataclass(slots=True)
class PowerMeter:
    """Sums up one source of energy. Readings come in the order of time."""

    joules: float = 0.0
    covered_s: float = 0.0
    _last: tuple[float, float] | None = field(default=None)

    def power(self, at_s: float, watts: float) -> None:
        """The power at a moment, in watts; between two it changes evenly."""
        if self._last is not None and 0 <= at_s - self._last[0] <= LONGEST_GAP_S:
            self._add(at_s - self._last[0], (at_s - self._last[0]) * (watts + self._last[1]) / 2)
        self._last = (at_s, watts)

    def counter(self, at_s: float, joules: float) -> None:
        """What a counter shows at a moment; one that falls has begun anew."""
        if self._last is not None and at_s >= self._last[0] and joules >= self._last[1]:
            self._add(at_s - self._last[0], joules - self._last[1])
        self._last = (at_s, joules)

    def energy(self, total_s: float) -> Energy | None:
        """The energy of `total_s` seconds; None without readings for any of them."""
        if self.covered_s <= 0:
            return None
        share = min(1.0, self.covered_s / total_s) if total_s > 0 else 1.0
        measured = share >= MEASURED_FROM
        joules = self.joules if measured else self.joules / share
        return Energy(joules / _J_PER_WH, measured, share)

    def _add(self, seconds: float, joules: float) -> None:
        self.covered_s += seconds
        self.joules += joules


def together(sources: Sequence[Energy]) -> Energy | None:
    """The sum of what several took at once; measured where all are."""
    if not sources:
        return None
    return Energy(
        sum(source.watt_hours for source in sources),
        all(source.measured for source in sources),
        min(source.share for source in sources),
    )


def over_attempts(parts: Sequence[tuple[float, Energy | None]]) -> Energy | None:
    """The energy of attempts one behind the other, each with its seconds. One without
    readings gets the mean power of the others.
    """
    known = [(seconds, energy) for seconds, energy in parts if energy is not None]
    known_s, total_s = sum(seconds for seconds, _ in known), sum(seconds for seconds, _ in parts)
    if not known or known_s <= 0:
        return None
    share = sum(seconds * energy.share for seconds, energy in known) / total_s
    measured = known_s == total_s and all(energy.measured for _, energy in known)
    return Energy(sum(energy.watt_hours for _, energy in known) * total_s / known_s, measured, share)
