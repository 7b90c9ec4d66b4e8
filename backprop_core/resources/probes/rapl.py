"""The energy that the processors have taken, by their own counters (RAPL); many systems let root alone read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_ZONES = "sys/class/powercap"
_MOST_DIGITS = 20


class Rapl:
    """Counts joules of all processor packages since its first reading.

    Args:
        root: the root of the file system with /sys, another one in tests.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._zones: Mapping[Path, int] | None = None
        self._last: dict[Path, int] = {}
        self._microjoules = 0

    def read(self) -> float | None:
        """Joules since the first reading; None where no counter can be read, or one cannot any more."""
        if self._zones is None:
            self._zones = self._find()
        if not self._zones:
            return None
        for zone, range_uj in self._zones.items():
            now = _number(zone / "energy_uj")
            if now is None:
                return None
            before = self._last.get(zone, now)
            self._microjoules += (
                now - before if now >= before else now + range_uj - before
            )  # it begins anew from 0
            self._last[zone] = now
        return self._microjoules / 1e6

    def _find(self) -> dict[Path, int]:
        """The zones of whole packages and what their counters hold at most: those within them are counted in them."""
        found = {}
        try:
            zones = sorted((self._root / _ZONES).iterdir())
        except OSError:
            return {}
        for zone in zones:
            try:
                name = (zone / "name").read_text(encoding="ascii").strip()
            except (OSError, ValueError):
                continue
            range_uj = _number(zone / "max_energy_range_uj")
            if name.startswith("package") and range_uj and _number(zone / "energy_uj") is not None:
                found[zone] = range_uj
        return found


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdigit() and len(text) <= _MOST_DIGITS else None
