"""Numbers out of other people's text: what is no sensible number is None."""

from __future__ import annotations

import math
import re

from backprop_core.resources.samples import MIB

_NUMBER = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*(?:MiB|MB|%|W|C|°C)?\s*")
_MAX_BYTES = 2**50  # a petabyte on one GPU is nonsense


def number(text: object) -> float | None:
    """A finite number, given as one or as text with a unit behind it."""
    if isinstance(text, str):
        found = _NUMBER.fullmatch(text)
        text = float(found[1]) if found else None
    if isinstance(text, bool) or not isinstance(text, int | float):
        return None
    try:
        value = float(text)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def size(text: object, unit: int = MIB) -> int | None:
    """Bytes from a number of `unit`s; None for what no GPU can have."""
    value = number(text)
    if value is None or not 0 <= value * unit <= _MAX_BYTES:
        return None
    return round(value * unit)


def temperature(text: object) -> float | None:
    """°C; None outside of what a chip that runs can have. 0 is what some drivers say when they do not
    know.
    """
    value = number(text)
    return value if value is not None and 0 < value < 200 else None


def percent(text: object) -> float | None:
    value = number(text)
    return value if value is not None and 0 <= value <= 100 else None


def power(text: object) -> float | None:
    """Watts."""
    value = number(text)
    return value if value is not None and 0 <= value < 100_000 else None


def consistent(
    total: int | None, used: int | None, free: int | None
) -> tuple[int | None, int | None, int | None]:
    """The three sizes with what follows from two of them; all unknown where they contradict each other."""
    if total is not None and (max(used or 0, free or 0) > total or total == 0):
        return None, None, None
    if total is not None and free is None and used is not None:
        free = total - used
    if total is not None and used is None and free is not None:
        used = total - free
    return total, used, free
