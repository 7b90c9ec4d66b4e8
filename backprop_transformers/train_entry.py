"""The one place where a training is entered: `Trainer.train`, of the class, so that every Trainer comes by.

A TrainerCallback is told of nothing before Trainer has decided what to resume from, and never of its Trainer. A Trainer
without our callback trains as ever.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

from accelerate import DistributedType
from transformers import trainer as trainer_module

from backprop_core.session.boxed_training import begun
from backprop_core.session.messages import Messages
from backprop_transformers.needs import check_needs_of_the_class

_ORIGINAL = "_backprop_original"


class BoxingCallback(Protocol):
    """Puts a training into a box."""

    @property
    def is_attached(self) -> bool: ...

    @property
    def is_training(self) -> bool: ...

    def begin(self, trainer: Any) -> Any: ...

    def run_training(
        self, training: Any, train: Callable[[Any], Any], users_checkpoint: Any, ignored_keys: Any
    ) -> Any: ...


Finder = Callable[[Any], BoxingCallback | None]


def patch_train(finder: Finder) -> None:
    """Let every `Trainer.train` from now on ask `finder` for its callback; once is enough.

    Raises:
        UsageError: this version of transformers has not all that the adapter builds on.
    """
    kind = trainer_module.Trainer
    original = kind.train
    if hasattr(original, _ORIGINAL):
        return
    check_needs_of_the_class()
    find_with(finder)

    @functools.wraps(original)
    def train(self: Any, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        callback = _find(self)
        if callback is None or callback.is_training:
            return original(self, resume_from_checkpoint, *args, **kwargs)
        training = _begun(callback, self, args, kwargs)
        if training is None:
            return original(self, resume_from_checkpoint, *args, **kwargs)
        return callback.run_training(
            training,
            lambda checkpoint: original(self, checkpoint, *args, **kwargs),
            resume_from_checkpoint,
            args[1] if len(args) > 1 else kwargs.get("ignore_keys_for_eval"),
        )

    setattr(train, _ORIGINAL, original)
    kind.train = train  # type: ignore[method-assign]


def find_with(finder: Finder) -> None:
    """From now on `finder` finds the callback of a Trainer, or adds one."""
    global _find
    _find = finder


def _nobodys(trainer: Any) -> BoxingCallback | None:
    return None


_find: Finder = _nobodys


def _begun(callback: BoxingCallback, trainer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The open box, or None where there cannot be one.

    Raises:
        UsageError: as `Session.open`.
    """
    if (args[0] if args else kwargs.get("trial")) is not None:
        return None  # one of many short trainings of a search, which are one experiment together
    reason = out_of_reach(trainer)
    if reason is None:
        return _opened(callback, trainer)
    if trainer.is_world_process_zero():
        Messages().say(f"{reason}: BackpropCallback neither saves nor stops such a training.", "warning")
    return None


def _opened(callback: BoxingCallback, trainer: Any) -> Any:
    return begun(lambda: callback.begin(trainer), name="transformers", attached=callback.is_attached)


def out_of_reach(trainer: Any) -> str | None:
    """Why this training cannot have a box of its own. What FSDP2 alone shards can: each process saves what it holds."""
    accelerator = trainer.accelerator
    if getattr(trainer, "is_deepspeed_enabled", False):
        return "DeepSpeed shards the Trainer's model"
    if getattr(trainer, "is_fsdp_enabled", False):
        if not getattr(accelerator, "is_fsdp2", False):
            return "FSDP1 shards the Trainer's model (FSDP2: fsdp_config={'version': 2})"
    elif getattr(trainer, "is_distributed_loading_by_transformers", False):
        layout = trainer.model.config.distributed_config
        if any(getattr(layout, f"{kind}_size", 1) != 1 for kind in ("tp", "pp", "ep")):
            return "The Trainer's model is sharded by tensor, pipeline or expert parallelism"
    elif not (
        accelerator.distributed_type == DistributedType.NO
        or accelerator.distributed_type.value.startswith("MULTI_")
    ):
        return (
            f"The Trainer's processes do not each hold the whole model ({accelerator.distributed_type.value})"
        )
    if getattr(accelerator, "parallelism_config", None) is not None:
        return (
            f"The Trainer's processes do not each hold the whole model ({accelerator.distributed_type.value})"
        )
    return None
