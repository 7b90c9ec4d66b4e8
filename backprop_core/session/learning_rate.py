"""The learning rate of a training, read from its optimizer where the script does not log it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

LEARNING_RATE = "learning_rate"


def rate_of(optimizers: Iterable[object]) -> float | None:
    """The learning rate of the first parameter group of the first object that has such groups; None where there is none.

    Reading it may wait for a device, where it is kept as an array there.
    """
    for one in optimizers:
        groups = getattr(one, "param_groups", None)
        if isinstance(groups, list) and groups and isinstance(groups[0], Mapping):
            return _number(groups[0].get("lr"))
    return None


def with_rate(logged: Mapping[str, float | int | str], rate: float | None) -> Mapping[str, float | int | str]:
    """What was logged, and the learning rate where nothing that was logged has its name."""
    if rate is None or any(_names_it(name) for name in logged):
        return logged
    return {**logged, LEARNING_RATE: rate}


def _names_it(name: str) -> bool:
    words = name.lower().replace("-", "_").replace("/", "_").split("_")
    return "lr" in words or ("learning" in words and "rate" in words)


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except Exception:  # an array of several, on a device that is gone, or nothing
        return None
