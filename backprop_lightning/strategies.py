"""Which of Lightning's strategies a fit may have: those whose whole state is in the first rank's checkpoint."""

from __future__ import annotations

from typing import Any

from backprop_core.errors import UsageError

WHOLE_ON_EACH_RANK = ("SingleDeviceStrategy", "DDPStrategy")
_LIGHTNING = ("lightning.", "pytorch_lightning.")


def check_strategy(trainer: Any) -> None:
    """Refuse a strategy that spreads the state over ranks: the first one's part alone would be saved, and nothing restored.

    Raises:
        UsageError: it is not known to be right; nothing was begun.
    """
    name = _lightnings_own(type(trainer.strategy))
    if name not in WHOLE_ON_EACH_RANK:
        raise UsageError(
            f"Trainings with Lightning's {name} cannot be saved and resumed yet: each rank has a "
            "state of its own.",
            "Use strategy='ddp', or train without a time box.",
        )


def _lightnings_own(kind: type) -> str:
    """The class of Lightning's that a script's strategy is, or is made from."""
    return next(
        (one.__name__ for one in kind.__mro__ if one.__module__.startswith(_LIGHTNING)), kind.__name__
    )
