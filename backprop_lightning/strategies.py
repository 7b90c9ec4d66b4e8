"""Which of Lightning's strategies a fit may have: those whose state is known to be saved and resumed as it is."""

from __future__ import annotations

from typing import Any

from backprop_core.errors import UsageError

WHOLE_ON_EACH_RANK = ("SingleDeviceStrategy", "DDPStrategy")
SHARDED = "ModelParallelStrategy"
_LIGHTNING = ("lightning.", "pytorch_lightning.")


def check_strategy(trainer: Any) -> None:
    """Refuse a strategy that spreads the state over ranks in a way of its own: the first one's part alone would be saved.

    Raises:
        UsageError: it is not known to be right; nothing was begun.
    """
    name = _lightnings_own(type(trainer.strategy))
    if name not in (*WHOLE_ON_EACH_RANK, SHARDED):
        raise UsageError(
            f"Trainings with Lightning's {name} cannot be saved and resumed: each rank has a state of its own.",
            "Use strategy='ddp' or ModelParallelStrategy (FSDP2), or train without a time box.",
        )


def shards(trainer: Any) -> bool:
    """Whether model and optimizers are spread over ranks."""
    return _lightnings_own(type(trainer.strategy)) == SHARDED


def data_replicas(trainer: Any) -> int:
    """Among how many ranks the samples are dealt: ranks that share a model's columns read the same ones."""
    dealt = getattr(trainer.strategy, "distributed_sampler_kwargs", None) or {}
    return int(dealt.get("num_replicas", 1))


def _lightnings_own(kind: type) -> str:
    """The class of Lightning's that a script's strategy is, or is made from."""
    return next(
        (one.__name__ for one in kind.__mro__ if one.__module__.startswith(_LIGHTNING)), kind.__name__
    )
